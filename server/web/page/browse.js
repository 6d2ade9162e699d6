/** The collection by composer, work and title, with a search. */

import { get } from "./api.js";
import { announce, h, svg } from "./dom.js";
import { clock, count, name } from "./format.js";

const PART = 60;

/** Returns the view: {element, close}. search: the words to begin with. */
export function browseView(search) {
  let [timer, request] = [null, null];
  const field = h("input", { type: "search", id: "search", value: search, autocomplete: "off", placeholder: "Title, composer or work", oninput: () => changed() });
  const kinds = ["", "score", "recording"].map((kind) =>
    h("label", {}, h("input", { type: "radio", name: "kind", value: kind, checked: kind === "", onchange: () => load() }), kind ? `${kind[0].toUpperCase()}${kind.slice(1)}s` : "All"),
  );
  const total = h("p", { class: "hint" });
  const list = h("ul", { class: "documents" });
  const more = h("button", { type: "button", hidden: true, onclick: () => load(list.children.length) }, "Show more");
  const form = h("form", { role: "search", onsubmit: (event) => event.preventDefault() }, h("label", { for: "search" }, "Search the collection"), field, h("fieldset", {}, h("legend", { class: "visually-hidden" }, "Kind"), kinds));
  const element = h("div", { class: "browse" }, h("h1", {}, "The collection"), form, total, list, more);

  function changed() {
    history.replaceState(null, "", `#/browse/${encodeURIComponent(field.value)}`);
    giveUp();
    timer = setTimeout(() => load(), 150);
  }

  /** Gives up what is on its way: it would put results of older words into the list. */
  function giveUp() {
    clearTimeout(timer);
    request?.abort();
  }

  async function load(skip = 0) {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    const kind = element.querySelector("[name=kind]:checked").value;
    const query = new URLSearchParams({ search: field.value, skip, most: PART, ...(kind && { kind }) });
    try {
      const found = await get(`/documents?${query}`, signal);
      if (!skip) list.replaceChildren();
      list.append(...found.documents.map(row));
      total.textContent = found.total ? count(found.total, "document") : "Nothing in this collection has these words.";
      announce(total.textContent);
      more.hidden = list.children.length >= found.total;
    } catch (error) {
      if (error.name !== "AbortError") total.textContent = error.message;
    }
  }

  load();
  return { element, close: giveUp };
}

/** Returns the sign of a kind: five lines, or a wave. */
function sign(kind) {
  const path = kind === "score" ? "M3 6h18M3 9h18M3 12h18M3 15h18M3 18h18" : "M4 10v4M8 7v10M12 4v16M16 8v8M20 11v2";
  return svg("svg", { viewBox: "0 0 24 24", width: 24, height: 24 }, svg("path", { d: path, class: "sign" }));
}

function row(document) {
  const size = document.kind === "score" ? count(document.pages, "page") : clock(document.duration_s);
  return h(
    "li",
    {},
    h(
      "a",
      { href: `#/document/${encodeURIComponent(document.id)}` },
      h("span", { class: `kind ${document.kind}`, "aria-hidden": "true" }, sign(document.kind)),
      h("span", { class: "name" }, name(document)),
      h("span", { class: "by" }, [document.composer, document.kind === "score" ? "Score" : "Recording", size].filter(Boolean).join(" · ")),
    ),
  );
}
