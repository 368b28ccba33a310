// What is shown comes to be what the controls say, in whatever order answers arrive.
//
// Gradio holds a change back while a question is on its way (`always_last`), but not while one is
// being made: controls that a link sets are asked about several times at once, some of them as they
// were, and the answer that comes last stays. Here a change presses a button only while no answer
// is awaited, and after every answer it is pressed again where the controls are not what was
// answered.
window.aqvizLatest = (() => {
  const REDRAW = "redraw"; // what the button asks
  const all = {}; // the button's id -> what is awaited, and the values that are shown

  function of(id) {
    return (all[id] ||= { awaited: new Map(), shown: "" });
  }

  function changed(id, ...values) {
    const { awaited, shown } = of(id);
    const button = document.getElementById(id);
    if (!button || awaited.size || shown === JSON.stringify(values)) return;
    asked(id, REDRAW, ...values);
    button.click();
  }

  function asked(id, question, ...values) {
    of(id).awaited.set(question, JSON.stringify(values));
  }

  function answered(id, question, ...values) {
    of(id).shown = of(id).awaited.get(question);
    of(id).awaited.delete(question);
    changed(id, ...values);
  }

  function failed(id, question) {
    of(id).awaited.delete(question);
    of(id).shown = "";
  }

  return { changed, asked, answered, failed };
})();
