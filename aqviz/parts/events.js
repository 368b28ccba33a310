// Answers that fill the same parts of the page come in the order of their questions.
//
// Gradio holds a change back while a question is on its way (`always_last`), but not while one is
// being made: controls that a link sets are asked about several times at once, some of them as they
// were, and whichever answer came last would stay. So a question is sent when those before it that
// fill what it fills are answered. To share one part, an alert or what a box offers, is no reason to
// wait.
{
  const send = window.fetch;
  const open = new Set(); // questions without an answer: the parts they fill, the answer to come

  window.fetch = (where, how) => {
    const asks = String(where).includes("/gradio_api/run/");
    return asks ? inOrder(filledBy(how.body), where, how) : send(where, how);
  };

  function filledBy(body) {
    const number = JSON.parse(body).fn_index;
    const events = (window.gradio_config || {}).dependencies || [];
    return events.filter((one) => one.id === number).flatMap((one) => one.outputs);
  }

  function inOrder(parts, where, how) {
    const alike = (other) => parts.filter((part) => other.parts.includes(part)).length > 1;
    const before = [...open].filter(alike).map((other) => other.answer);
    const question = { parts, answer: Promise.allSettled(before).then(() => whole(where, how)) };
    open.add(question);
    return question.answer.finally(() => open.delete(question));
  }

  async function whole(where, how) {
    const answer = await send(where, how);
    await answer.clone().arrayBuffer();
    return answer;
  }
}
