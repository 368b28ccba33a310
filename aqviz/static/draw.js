// Draws every figure of the page and lets tables be sorted, by the app's own scripts: what Gradio
// hands to them there (element, props, watch, trigger) is handed to them here.
const still = () => {};

function drawFigure(element, props, watch, trigger) {
/* app: plot_host.js */
}

function sortTables(element) {
/* app: tables.js */
}

function tellNumbers(element, watch) {
/* app: inside.js */
}

for (const element of document.querySelectorAll(".drawing")) {
  const value = element.querySelector("script").textContent;
  const source = "aqviz, " + location.pathname.split("/").pop(); // no path of a reader's machine
  drawFigure(element, { value, source }, still, still);
}
sortTables(document.body);
const numbers = document.getElementById("inside-numbers");
if (numbers) tellNumbers(numbers, still);
