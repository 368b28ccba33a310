// Light or dark, as the page will be: what the address asks for, was chosen once, or the system has.
{
  let chosen = new URLSearchParams(location.search).get("__theme");
  try {
    chosen = chosen || localStorage.getItem("aqviz-theme");
  } catch {}
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const apply = () => {
    if (document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark");
  };
  apply();
  // Gradio, starting, goes by the system alone; theme.js comes later.
  const watching = new MutationObserver(() =>
    document.getElementById("first-paint") ? apply() : watching.disconnect(),
  );
  watching.observe(document.body, { attributes: true, attributeFilter: ["class"] });
}
