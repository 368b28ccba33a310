const KEY = "aqviz-theme";
const body = document.body;

function apply(mode) {
  body.classList.toggle("dark", mode === "dark");
  element.querySelector("button").setAttribute("aria-pressed", String(mode === "dark"));
}

// Where storage is refused a choice holds as long as the page.
function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function store(mode) {
  try {
    localStorage.setItem(KEY, mode);
  } catch {}
}

const asked = new URLSearchParams(location.search).get("__theme");
let chosen = stored();
if (!asked && chosen) apply(chosen);

element.querySelector("button").addEventListener("click", () => {
  chosen = body.classList.contains("dark") ? "light" : "dark";
  apply(chosen);
  store(chosen);
});
