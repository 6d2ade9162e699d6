/** The page of a document: a score with its recordings, or a recording with its scores, each pair played together. */

import { get, post } from "./api.js";
import { announce, h } from "./dom.js";
import { exportLinks } from "./exports.js";
import { clock, count, name, percent, sureness } from "./format.js";
import { Pair } from "./pair.js";

const MOST_OTHERS = 10;

/** Returns the view: {element, close}. wanted: {with, s}, the other document and the second of a link. */
export function documentView(id, wanted) {
  let [chosen, closed, choices] = [null, false, 0];
  const pair = new Pair({ moved: (second) => note(second) });
  const head = h("div", { class: "head" }, h("h1", {}, id));
  const others = h("div", { class: "others" }, h("p", { class: "hint" }, "Looking for what belongs to it"));
  const files = h("div", {});
  const shown = h("div", { class: "shown" }, pair.element);
  const element = h("div", { class: "document" }, h("div", { class: "found" }, head, others, files), shown);
  load().catch((error) => others.replaceChildren(h("p", { class: "note error", role: "alert" }, error.message)));

  async function load() {
    const facts = await get(`/documents/${encodeURIComponent(id)}`);
    head.replaceChildren(...described(facts));
    document.title = `${name(facts)} – scorefind`;
    const isScore = facts.kind === "score";
    if (isScore) files.replaceChildren(exportLinks(id, null));
    const alone = isScore ? pair.showScore(id) : pair.play(id, { map: [], stretch: null, start: wanted.s });
    const answer = await post("/query", { document: id, kind: facts.kind, path: true, top: MOST_OTHERS });
    await alone;
    if (closed) return;
    const likely = answer.matches.filter(({ confidence }) => confidence === null || confidence >= 0.5);
    list(likely, isScore);
    const first = likely.find((match) => match.id === wanted.with) ?? likely[0];
    if (first) await choose(first, isScore, wanted.s);
  }

  function list(likely, isScore) {
    const [one, what] = isScore ? ["recording", "Recordings"] : ["score", "Scores"];
    if (!likely.length) {
      others.replaceChildren(h("p", { class: "hint" }, `No ${one} of this is in the collection.`));
      return;
    }
    const options = likely.map((match) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: "other", value: match.id, onchange: () => choose(match, isScore, isScore ? null : pair.player.second) }),
        h("span", { class: "name" }, name(match)),
        h("span", { class: "by" }, [match.id, `${sureness(match.confidence)} ${percent(match.confidence)}`.trim()].filter(Boolean).join(" · ")),
      ),
    );
    const share = h("button", { type: "button", onclick: () => copy(share) }, "Copy a link to this place");
    others.replaceChildren(h("fieldset", {}, h("legend", {}, what), options), share);
  }

  /** Shows and plays a pair, unless another one is chosen meanwhile. A pair that fails can be chosen again. */
  async function choose(match, isScore, second) {
    choices += 1;
    const choice = choices;
    shown.querySelector(".error")?.remove();
    files.replaceChildren(isScore ? exportLinks(id, match.id) : exportLinks(match.id, id));
    for (const option of others.querySelectorAll("input")) option.checked = option.value === match.id;
    try {
      await join(match, isScore, second, () => choice !== choices);
    } catch (error) {
      if (choice !== choices) return;
      for (const option of others.querySelectorAll("input")) option.checked = false; // one that is checked cannot be chosen
      announce(error.message);
      shown.prepend(h("p", { class: "note error" }, error.message));
    }
  }

  /** Plays the pair. Another recording of the same score goes on at the same place of the music. */
  async function join(match, isScore, second, superseded) {
    const before = chosen && isScore ? pair.player.map?.at(pair.player.second) : null;
    const playing = !pair.player.audio.paused;
    const map = match.time_map ?? [];
    if (isScore) {
      await pair.play(match.id, { map, stretch: [match.start_s, match.end_s], start: second });
      if (superseded()) return;
      pair.score.mark([]);
    } else {
      await pair.showScore(match.id, []);
      if (superseded()) return;
      await pair.play(id, { map, stretch: [match.query_start_s, match.query_end_s], start: second });
      if (superseded()) return;
    }
    chosen = match;
    if (before) pair.player.seekTo(before.system, before.x);
    if (playing) pair.player.toggle();
  }

  /** Keeps the place in the address, so that it can be shared. */
  function note(second) {
    if (closed || !chosen) return;
    const query = new URLSearchParams({ with: chosen.id, s: second.toFixed(1) });
    history.replaceState(null, "", `#/document/${encodeURIComponent(id)}?${query}`);
  }

  async function copy(button) {
    note(pair.player.second ?? 0);
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
      announce("The link is copied.");
    } catch {
      button.textContent = "The link is in the address bar";
    }
    setTimeout(() => (button.textContent = "Copy a link to this place"), 2500);
  }

  return { element, close: () => ((closed = true), (choices += 1), pair.close()) };
}

function described(facts) {
  const size = facts.kind === "score" ? `${count(facts.pages, "page")}, ${count(facts.systems.length, "system")}` : clock(facts.duration_s);
  return [
    h("p", { class: "eyebrow" }, facts.kind === "score" ? "Score" : "Recording"),
    h("h1", {}, name(facts)),
    h("p", {}, [facts.composer, size].filter(Boolean).join(" · ")),
    h("p", { class: "hint" }, facts.id),
  ];
}
