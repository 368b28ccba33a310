const KEY = "aqviz-theme";
const body = document.body;

function apply(mode) {
  body.classList.toggle("dark", mode === "dark");
  element.querySelector("button").setAttribute("aria-pressed", String(mode === "dark"));
}

const asked = new URLSearchParams(location.search).get("__theme");
const saved = localStorage.getItem(KEY);
if (!asked && saved) apply(saved);

element.querySelector("button").addEventListener("click", () => {
  const mode = body.classList.contains("dark") ? "light" : "dark";
  localStorage.setItem(KEY, mode);
  apply(mode);
});
