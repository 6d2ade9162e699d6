/** Files that are dropped or pasted anywhere on a page. */

import { h } from "./dom.js";

/** Calls `take` with the files whenever somebody drops or pastes some; without it a browser would leave the page. */
export function takeDropped(take) {
  const veil = h("div", { id: "drop-veil", "aria-hidden": "true" }, h("p", {}, "Drop it anywhere"));
  document.body.append(veil);
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    veil.classList.add("on");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && veil.classList.remove("on"));
  addEventListener("drop", (event) => {
    veil.classList.remove("on");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take([...event.clipboardData.files]);
  });
}
