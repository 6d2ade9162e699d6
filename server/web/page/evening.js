/** The page of an evening: a long recording as a ribbon of its pieces; a click plays a piece and shows its score. */

import { get, media, pagePath, send } from "./api.js";
import { announce, h } from "./dom.js";
import { takeDropped } from "./drop.js";
import { clock, count, name, percent, unseen, where } from "./format.js";
import { ScoreView } from "./score.js";

/** Gaps that are shorter than this are not in the programme, in seconds. */
const SHORTEST_GAP_S = 3;
/** Seconds that the server may take: the most that it allows. */
const DEADLINE_S = 600;

const main = document.getElementById("main");
let giving = null;

const chooser = h("input", { type: "file", id: "file", class: "visually-hidden", accept: "audio/*,.flac,.ogg,.opus,.m4a,.aiff", onchange: () => take(chooser.files[0]) });
const outcome = h("section", { class: "evening" });
main.append(
  h(
    "div",
    { class: "evening" },
    h(
      "div",
      {},
      h("h1", {}, "What was played this evening?"),
      h("p", { class: "sub" }, "Give the recording of a concert, a radio hour or an hour of practice."),
      h("label", { class: "button primary", for: "file" }, "Choose a recording"),
      chooser,
      h("p", { class: "hint" }, "You can drop it here, too."),
    ),
    outcome,
  ),
);

takeDropped(([file]) => take(file));

/** Asks the server about a recording, and shows its answer. */
async function take(file) {
  if (!file) return;
  chooser.value = "";
  giving?.abort();
  giving = new AbortController();
  const { signal } = giving;
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Sent" });
  const text = h("p", {}, `Sending ${file.name}`);
  const stop = h("button", { type: "button", onclick: () => (giving.abort(), outcome.replaceChildren()) }, "Give up");
  outcome.replaceChildren(h("div", { class: "busy" }, text, bar, stop));
  const progress = (share) => {
    bar.value = share;
    if (share < 1) return;
    bar.removeAttribute("value");
    text.textContent = `Listening to ${file.name}`;
    announce(text.textContent);
  };
  const form = new FormData();
  form.append("media", file, file.name);
  form.append("deadline_s", DEADLINE_S);
  try {
    const setlist = await send("/segment", form, { progress, signal });
    if (!signal.aborted) show(setlist, file);
  } catch (error) {
    if (error.name === "AbortError") return;
    announce(error.message);
    outcome.replaceChildren(h("div", { class: "verdict failed", role: "alert" }, h("h2", {}, "That did not work"), h("p", { class: "hint" }, error.message)));
  }
}

/** Shows a set list. */
function show(setlist, file) {
  const { passages, duration_s: duration } = setlist; // of the whole file: this page names no part of it
  const audio = h("audio", { controls: true, preload: "auto", src: URL.createObjectURL(file), ontimeupdate: () => follow() });
  const needle = h("span", { class: "needle", "aria-hidden": "true" });
  const shown = h("div", { class: "shown" });
  const buttons = passages.map(() => []);
  let chosen = -1;

  const pick = (number) => {
    audio.currentTime = passages[number].start_s;
    audio.play().catch(() => {});
    choose(number);
  };
  const button = (number, properties, ...children) => {
    const made = h("button", { type: "button", "aria-pressed": "false", onclick: () => pick(number), ...properties }, ...children);
    buttons[number].push(made);
    return made;
  };
  const follow = () => {
    const second = audio.currentTime;
    needle.style.left = share(second, duration);
    const number = passages.findIndex((passage) => passage.start_s <= second && second < passage.end_s);
    if (number >= 0 && number !== chosen) choose(number);
  };
  const choose = (number) => {
    if (number === chosen) return;
    chosen = number;
    buttons.forEach((both, other) => both.forEach((one) => one.setAttribute("aria-pressed", String(other === number))));
    announce(name(passages[number]));
    showScore(passages[number], shown, () => chosen === number);
  };

  const ribbon = h("div", { class: "ribbon", role: "group", "aria-label": "The evening" });
  passages.forEach((passage, number) => {
    const label = `${name(passage)}, ${clock(passage.start_s)} to ${clock(passage.end_s)}`;
    const piece = button(number, { title: label, "aria-label": label }, name(passage));
    piece.style.left = share(passage.start_s, duration);
    piece.style.width = share(passage.end_s - passage.start_s, duration);
    ribbon.append(piece);
  });
  ribbon.append(needle);
  const found = passages.length ? `${count(passages.length, "piece")} in ${clock(duration)}` : "Nothing in this recording is in the collection.";
  const missing = unseen(setlist);
  const note = missing ? [h("p", { class: "hint" }, missing)] : [];
  outcome.replaceChildren(h("h2", {}, found), ...note, ribbon, audio, h("ol", { class: "programme" }, programme(passages, duration, button)), shown);
  announce(found);
}

/** Returns the items of the programme: the pieces, and the longer gaps between them. */
function programme(passages, duration, button) {
  const items = [];
  let heard = 0;
  const gap = (until) => {
    if (until - heard >= SHORTEST_GAP_S) items.push(h("li", { class: "gone" }, `${clock(heard)} to ${clock(until)}: nothing of this collection`));
  };
  passages.forEach((passage, number) => {
    gap(passage.start_s);
    heard = passage.end_s;
    const by = [passage.composer, percent(passage.confidence)].filter(Boolean).join(", ");
    items.push(h("li", {}, button(number, {}, h("span", { class: "time" }, clock(passage.start_s)), h("span", { class: "name" }, name(passage)), h("span", { class: "by" }, by))));
  });
  gap(duration);
  return items;
}

/** Shows the score of a passage with its systems marked. isWanted: whether the passage is still the chosen one. */
async function showScore(passage, element, isWanted) {
  const place = where({ ...passage.place });
  try {
    const facts = await get(`/documents/${encodeURIComponent(passage.id)}`);
    if (!isWanted()) return;
    const heading = h("p", { class: "eyebrow" }, [name(passage), place].filter(Boolean).join(", "));
    if (facts.kind !== "score" || !facts.media) return element.replaceChildren(heading);
    const score = new ScoreView({
      title: name(passage),
      pages: facts.pages,
      systems: facts.systems,
      picture: (page, turn) => media(pagePath(passage.id, page, turn, 1200)),
      picked: () => {},
    });
    element.replaceChildren(heading, score.element);
    score.mark(passage.place.systems);
    score.show(passage.place.pages[0] ?? 1);
  } catch (error) {
    if (isWanted()) element.replaceChildren(h("p", { class: "hint" }, error.message));
  }
}

function share(part, whole) {
  return `${(100 * part) / Math.max(whole, 1e-9)}%`;
}
