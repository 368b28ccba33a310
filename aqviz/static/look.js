// The page's look, before anything below it is painted: the reader's last choice, else the system's.
const system = matchMedia("(prefers-color-scheme: dark)");

function wear(element) {
/* app: theme.js */
  const follow = () => chosen || apply(system.matches ? "dark" : "light");
  follow();
  system.addEventListener("change", follow);
}

wear(document.getElementById("theme"));
