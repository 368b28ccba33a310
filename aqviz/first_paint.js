// The view that the address names, up to its first figure, from the config that came with the page:
// words and figure as they will be, boxes where the controls come.
const parts = new Map(window.gradio_config.components.map((part) => [part.id, part]));
const asked = new URLSearchParams(location.search);
const view = asked.get("view") || "race";
const AS_AT_FIRST = ["v", "view", "__theme"]; // what a link may say and mean the view as it is sent
const NEVER = 15000; // ms after which nothing more is waited for

function part(node) {
  return parts.get(node.id) || { type: "", props: {} };
}

function find(node, id) {
  if (part(node).props.elem_id === id) return node;
  for (const child of node.children || []) {
    const found = find(child, id);
    if (found) return found;
  }
  return null;
}

function made(tag, classes, inner = "") {
  const element = document.createElement(tag);
  element.className = classes;
  element.innerHTML = inner;
  return element;
}

function link(node) {
  const { id, label } = part(node).props;
  const element = made("a", id === view ? "selected" : "");
  element.textContent = label;
  element.href = `?v=1&view=${id}`;
  return element;
}

function box(type, { label, value }) {
  const element = made("div", `coming ${type}`, "<span></span><i></i>");
  const [over, within] = element.children;
  if (type === "button") within.textContent = value;
  else over.textContent = label || "";
  return element;
}

// Appends what a node shows; true as soon as a figure is among it, after which nothing is shown.
function show(node, into) {
  const { type, props } = part(node);
  if (props.visible === false || props.visible === "hidden") return false;
  const inside = { row: "row", column: "column", form: "column form" }[type];
  if (inside) {
    const element = made("div", [inside, ...(props.elem_classes || [])].join(" "));
    into.append(element);
    return (node.children || []).some((child) => show(child, element));
  }
  if (type !== "html") {
    if (type !== "timer") into.append(box(type, props));
    return false;
  }
  const figure = (props.js_on_load || "").startsWith("window.aqvizPlot");
  const classes = ["block", ...(props.elem_classes || [])].join(" ");
  const element = made("div", classes, figure ? props.html_template : props.value || "");
  into.append(element);
  if (figure) window.aqvizPlot(element, props, () => {}, () => {});
  return figure;
}

function dark() {
  let chosen = asked.get("__theme");
  try {
    chosen = chosen || localStorage.getItem("aqviz-theme");
  } catch {}
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function paint() {
  const views = find(window.gradio_config.layout, "views");
  const tab = find(views, `view-${view}`);
  if (!tab || ![...asked.keys()].every((name) => AS_AT_FIRST.includes(name))) return;
  document.body.classList.toggle("dark", dark());
  const page = made("main", "gradio-container");
  const style = document.createElement("style");
  style.textContent = window.gradio_config.css;
  const first = made("div", "");
  first.id = "first-paint";
  first.append(style, page);
  document.body.prepend(first);
  show(window.gradio_config.layout.children.find((node) => part(node).type === "row"), page);
  const bar = made("nav", "views");
  bar.append(...views.children.map(link));
  page.append(bar);
  const column = made("div", "column");
  page.append(column);
  (tab.children || []).some((node) => show(node, column));
  until(first);
}

// Gradio's own page takes its place when its first figure is drawn.
function until(first) {
  const end = () => {
    watching.disconnect();
    first.remove();
  };
  const watching = new MutationObserver(() => {
    const plots = document.querySelectorAll("gradio-app .plot");
    const seen = [...plots].find((one) => one.offsetParent);
    if (seen && seen.dataset.drawn) end();
  });
  const attributes = { attributes: true, attributeFilter: ["data-drawn"] };
  watching.observe(document.querySelector("gradio-app"), { subtree: true, ...attributes });
  setTimeout(end, NEVER);
}

if (window.Plotly) paint();
