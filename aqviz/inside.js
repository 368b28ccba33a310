// Numbers that say how they come about: on focus or click, and from one to the next by arrow keys.
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function buttons() {
  return [...element.querySelectorAll("tbody tr, tfoot tr")].map((row) => [
    ...row.querySelectorAll("button[data-told]"),
  ]);
}

function tell(button) {
  for (const other of buttons().flat()) {
    other.tabIndex = other === button ? 0 : -1;
    other.toggleAttribute("aria-current", other === button);
  }
  element.querySelector(".arithmetic").textContent = button.dataset.told;
}

function told(event) {
  const button = event.target.closest("button[data-told]");
  if (button) tell(button);
}

element.addEventListener("focusin", told);
element.addEventListener("click", told);
element.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  const rows = buttons();
  const line = rows.findIndex((row) => row.includes(event.target));
  if (!move || line < 0) return;
  event.preventDefault();
  const row = rows[Math.min(Math.max(line + move[0], 0), rows.length - 1)];
  const place = rows[line].indexOf(event.target) + move[1];
  row[Math.min(Math.max(place, 0), row.length - 1)].focus();
});

function reachable() {
  const first = buttons().flat()[0];
  if (first) first.tabIndex = 0; // one stop for the Tab key, the arrows do the rest
}

watch("value", () => requestAnimationFrame(reachable));
reachable();
