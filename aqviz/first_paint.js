// Draws the figure of the first paint, which goes when Gradio's own page shows the same.
let patience = 15; // seconds that Gradio's page may be there and draw nothing
const first = document.getElementById("first-paint");
const drawing = first && first.querySelector(".drawing");

function value() {
  return drawing.nextElementSibling.textContent;
}

function look() {
  const plots = document.querySelectorAll("gradio-app .plot");
  const seen = [...plots].find((one) => one.offsetParent);
  const told = drawing && JSON.parse(value()).layout.meta.alt;
  const opened = window.aqvizAsked === ""; // and what it asked for may have gone on since
  if (seen && seen.dataset.drawn && (opened || seen.dataset.drawn === told)) end();
}

function tick() {
  look();
  if (document.querySelector("gradio-app [role=tab]") && !patience--) end();
}

function end() {
  watching.disconnect();
  clearInterval(ticking);
  first.remove();
}

const watching = new MutationObserver(look);
const ticking = first ? setInterval(tick, 1000) : 0;
if (first) {
  if (drawing) window.aqvizPlot(drawing, { value: value() }, () => {}, () => {});
  const attributes = { attributes: true, attributeFilter: ["data-drawn"] };
  watching.observe(document.querySelector("gradio-app"), { subtree: true, ...attributes });
}
