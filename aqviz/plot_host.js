const gd = element.querySelector(".plot");

function pageLook() {
  const css = getComputedStyle(document.body);
  const ink = css.getPropertyValue("--ink").trim();
  const paper = css.getPropertyValue("--paper").trim();
  const font = { color: ink, family: css.getPropertyValue("--font").trim() };
  return { font, hoverlabel: { bgcolor: paper, bordercolor: "#7b818a", font } };
}

function draw() {
  if (!props.value || !window.Plotly) return;
  const figure = JSON.parse(props.value);
  const look = pageLook();
  const layout = figure.layout;
  layout.font = Object.assign({}, layout.font, look.font);
  layout.hoverlabel = Object.assign({}, layout.hoverlabel, look.hoverlabel);
  layout.autosize = true;
  gd.style.height = layout.height + "px";
  const options = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false,
    displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: "aqviz" },
  };
  window.Plotly.react(gd, figure.data, layout, options).then(() => name(layout.meta.alt));
}

// One drawing is the named image, the layers over it are hidden; the buttons stay reachable.
function name(words) {
  const [first, ...others] = gd.querySelectorAll(".main-svg");
  first.setAttribute("role", "img");
  first.setAttribute("aria-label", words);
  others.forEach((layer) => layer.setAttribute("aria-hidden", "true"));
}

watch("value", draw);
draw();
new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
