/** Starts the page: which view the address names, and files that are dropped or pasted anywhere. */

import { askView } from "./ask.js";
import { browseView } from "./browse.js";
import { documentView } from "./document.js";
import { takeDropped } from "./drop.js";

const main = document.getElementById("main");
let [view, ask] = [null, null];

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const argument = decodeURIComponent(rest.join("/"));
  if (view && view !== ask) view.close();
  if (view === ask) ask?.element.querySelector("audio")?.pause();
  document.title = "scorefind";
  if (name === "browse") view = browseView(argument);
  else if (name === "document") view = documentView(argument, passage(query));
  else view = ask ??= askView();
  for (const link of document.querySelectorAll("[data-route]")) {
    const here = link.dataset.route === (view === ask ? "ask" : "browse");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(view.element);
  window.scrollTo(0, 0);
}

/** Returns the passage that a link names: {with, s}. */
function passage(query) {
  const fields = new URLSearchParams(query ?? "");
  const second = Number.parseFloat(fields.get("s") ?? "");
  return { with: fields.get("with"), s: Number.isFinite(second) && second >= 0 ? second : null };
}

function take(files) {
  if (!files.length) return;
  if (view !== ask || !ask) {
    history.pushState(null, "", "#/");
    route();
  }
  ask.take(files);
}

takeDropped(take);
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  const busy = event.target.closest("button, a, input, summary, select, textarea");
  const button = document.querySelector(".player:not([hidden]) .play");
  if (event.key !== " " || busy || !button) return;
  event.preventDefault();
  button.click();
});
route();
