const gd = element.querySelector(".plot");
const told = element.querySelector(".told");
const tools = element.querySelector(".tools");
const sheet = element.querySelector(".sheet"); // none where the page itself has the table
const LIGHT = { ink: "#16191d", paper: "#ffffff" };

function pageLook() {
  const css = getComputedStyle(document.body);
  const ink = css.getPropertyValue("--ink").trim();
  const paper = css.getPropertyValue("--paper").trim();
  const font = { color: ink, family: css.getPropertyValue("--font").trim() };
  return { font, hoverlabel: { bgcolor: paper, bordercolor: "#7b818a", font } };
}

function title() {
  const card = element.closest(".figure");
  const heading = card && card.querySelector("h2");
  return heading ? heading.textContent.trim() : "figure";
}

function fileName() {
  return "aqviz-" + title().toLowerCase().replace(/[^a-z0-9]+/g, "-");
}

function draw() {
  if (!props.value || !window.Plotly || !gd.isConnected) return;
  const figure = JSON.parse(props.value);
  const look = pageLook();
  const layout = figure.layout;
  layout.font = Object.assign({}, layout.font, look.font);
  layout.hoverlabel = Object.assign({}, layout.hoverlabel, look.hoverlabel);
  layout.autosize = true;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) delete layout.updatemenus;
  gd.style.height = layout.height + "px";
  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false,
    displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toImage"],
  };
  const frames = figure.frames || [];
  if (gd.hasFrames) window.Plotly.purge(gd); // react would keep the frames of the last figure
  gd.hasFrames = frames.length > 0;
  withoutBase(() => window.Plotly.react(gd, { data: figure.data, layout, config, frames })).then(() => {
    name(layout.meta.alt);
    gd.removeAllListeners("plotly_click");
    gd.on("plotly_click", clicked);
    gd.dataset.drawn = layout.meta.alt;
  });
  say(layout.meta);
}

// The figure's sentence, and what can be done with it.
function say({ alt, table }) {
  told.textContent = alt;
  showTools(table);
}

// With a <base> plotly points at patterns by the whole address, which stops naming this page as soon
// as the address changes.
function withoutBase(act) {
  const base = document.querySelector("base[href]");
  const href = base && base.getAttribute("href");
  if (base) base.removeAttribute("href");
  const done = act();
  if (base) base.setAttribute("href", href);
  return done;
}

function clicked(event) {
  const { x, y, customdata, curveNumber, pointNumber } = event.points[0];
  const told = { x, y, customdata, curve: curveNumber, point: pointNumber };
  const tell = () => (window.aqvizAsked ? setTimeout(tell, 50) : trigger("select", told));
  tell(); // not before the link is open, whose answer would undo it
}

// One drawing is the named image, the layers over it are hidden; the buttons stay reachable.
function name(words) {
  const [first, ...others] = gd.querySelectorAll(".main-svg");
  if (!first) return;
  first.setAttribute("role", "img");
  first.setAttribute("aria-label", words);
  others.forEach((layer) => layer.setAttribute("aria-hidden", "true"));
}

// --- the table, and what can be downloaded --------------------------------------------------------

function button(label, words, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.setAttribute("aria-label", words);
  made.addEventListener("click", act);
  return made;
}

function showTools(table) {
  if (!tools.childElementCount) {
    const offered = { SVG: () => image("svg"), PNG: () => image("png"), CSV: () => saveTable() };
    if (sheet) tools.append(sheetButton());
    for (const [label, act] of Object.entries(offered))
      tools.append(button(label, `download ${title()} as ${label}`, act));
  }
  for (const one of tools.children)
    if (one.textContent === "Table" || one.textContent === "CSV") one.hidden = !table;
  if (sheet && !table) sheet.hidden = true;
  if (sheet && !sheet.hidden) fillSheet();
}

function sheetButton() {
  const toggle = button("Table", `table of: ${title()}`, () => {
    sheet.hidden = !sheet.hidden;
    toggle.setAttribute("aria-expanded", String(!sheet.hidden));
    if (!sheet.hidden) fillSheet();
  });
  toggle.setAttribute("aria-expanded", "false");
  return toggle;
}

function table() {
  return JSON.parse(props.value).layout.meta.table;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

function fillSheet() {
  const { columns, rows } = table();
  const made = document.createElement("table");
  const line = (tag, cells, words) => {
    const row = document.createElement("tr");
    cells.forEach((cell, i) => {
      const one = document.createElement(i ? tag : "th");
      one.setAttribute("scope", tag === "th" ? "col" : "row");
      if (i && tag === "td") one.removeAttribute("scope");
      one.textContent = words(cell);
      row.append(one);
    });
    return row;
  };
  const head = made.createTHead();
  head.append(line("th", columns, String));
  const body = made.createTBody();
  rows.slice(0, 500).forEach((row) => body.append(line("td", row, number)));
  sheet.replaceChildren(made);
  if (rows.length > 500) sheet.append(`The first 500 of ${rows.length} rows; CSV has all.`);
}

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${fileName()}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function saveTable() {
  const { columns, rows } = table();
  const quote = (cell) => {
    const words = cell === null || cell === undefined ? "" : String(cell);
    return /[",\n]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words;
  };
  const text = [columns, ...rows].map((row) => row.map(quote).join(",")).join("\n");
  save(new Blob([text + "\n"], { type: "text/csv" }), "csv");
}

// A picture is always of the light page, and says under it what it shows and where it is from.
async function image(format) {
  const layout = JSON.parse(JSON.stringify(gd.layout));
  const width = Math.max(720, gd.clientWidth);
  const lines = wrap(`${title()}. ${layout.meta.alt}`, Math.floor(width / 7));
  lines.push(...wrap(props.source || location.href, Math.floor(width / 7)));
  const foot = 18 * lines.length + 16;
  const height = layout.height + foot;
  layout.font.color = LIGHT.ink;
  layout.paper_bgcolor = layout.plot_bgcolor = LIGHT.paper;
  layout.margin = Object.assign({}, layout.margin, { b: ((layout.margin || {}).b || 40) + foot });
  layout.title = {
    text: lines.map(escape).join("<br>"),
    xref: "container", yref: "container", x: 0, y: 0, xanchor: "left", yanchor: "bottom",
    pad: { l: 12, b: 8 }, font: { size: 12, color: LIGHT.ink },
  };
  delete layout.width;
  delete layout.updatemenus;
  delete layout.sliders;
  const picture = { data: gd.data, layout: Object.assign(layout, { width, height }) };
  const url = await window.Plotly.toImage(picture, { format, width, height, scale: 2 });
  save(await (await fetch(url)).blob(), format);
}

function escape(words) {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function wrap(words, length) {
  const lines = [""];
  for (const word of words.match(new RegExp(`\\S{1,${length}}`, "g")) || []) {
    const last = lines[lines.length - 1];
    if (last && last.length + word.length >= length) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines;
}

// --- when to draw ----------------------------------------------------------------------------------

// What is in sight is drawn first: a page of figures drawn in one go keeps its first one waiting.
// The first paint has but one, and the browser no time to spare until Gradio has started.
function inTurn() {
  const { top, bottom } = gd.getBoundingClientRect();
  const wait = gd.closest("#first-paint") ? { timeout: 100 } : {};
  if (top < innerHeight && bottom >= 0) draw();
  else (window.requestIdleCallback || setTimeout)(draw, wait);
}

watch("value", draw);
if (props.value) say(JSON.parse(props.value).layout.meta);
inTurn();
const page = new MutationObserver(() => (gd.isConnected ? draw() : page.disconnect()));
page.observe(document.body, { attributes: true, attributeFilter: ["class"] });
let width = gd.clientWidth; // a figure drawn while its tab was hidden has none
new ResizeObserver(() => {
  if (gd.clientWidth && gd.clientWidth !== width && gd._fullLayout) window.Plotly.Plots.resize(gd);
  width = gd.clientWidth;
}).observe(gd);
