// Light or dark, as the page will be: what the address asks for, was chosen once, or the system has.
{
  let chosen = new URLSearchParams(location.search).get("__theme");
  try {
    chosen = chosen || localStorage.getItem("aqviz-theme");
  } catch {}
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.toggle("dark", dark);
}
