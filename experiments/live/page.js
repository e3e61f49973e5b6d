// While somebody steers, the arrow keys are the wheel: they do not scroll the page, nor are they for the slider, tab or
// closed list that was pointed at last. Whoever came to one with the Tab key means it.
document.documentElement.lang = "en";
let pointed = false;
addEventListener("pointerdown", () => { pointed = true; }, true);
for (const kind of ["keydown", "keyup"]) addEventListener(kind, event => {
  if (event.key === "Tab") pointed = false;
  if (!event.isTrusted || !event.key.startsWith("Arrow") || !document.querySelector(".steering")) return;
  const used = document.activeElement, widget = used?.closest(".q-slider,.q-tab,.q-select");
  if (widget?.querySelector("[aria-expanded=true]") || used?.matches("[aria-expanded=true]")) return;
  if (widget && pointed) {
    event.stopImmediatePropagation();
    event.preventDefault();
    used.blur();
    document.dispatchEvent(new KeyboardEvent(kind, event));
  } else if (!used?.closest("input,textarea,[role=slider],[role=tab]")) event.preventDefault();
}, true);
// what has no name of its own: the picture of which a map is made, whose map has one, and the bar of what is loading
new MutationObserver(() => {
  for (const image of document.querySelectorAll("img:not([alt])")) image.alt = "";
  for (const bar of document.querySelectorAll(".q-loading-bar:not([aria-label])")) bar.setAttribute("aria-label", "loading");
}).observe(document, { childList: true, subtree: true });
