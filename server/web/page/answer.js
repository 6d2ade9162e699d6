/** An answer: the works in order, how sure each is, or that the piece is not here; and the match that is chosen. */

import { announce, h } from "./dom.js";
import { count, name, percent, sureness, unseen, where } from "./format.js";
import { Pair } from "./pair.js";

/** Confidence from which a match counts as right. */
const SURE = 0.5;

/** Returns the view of an answer: {element, close}. files: what was asked about. */
export function answerView(answer, files) {
  const pair = new Pair();
  const cards = new Map(answer.matches.map((match) => [match, card(match, () => choose(match))]));
  const groups = works(answer.matches);
  const found = answer.in_collection !== false && groups.length > 0;
  const sure = found ? groups.filter((group, i) => i === 0 || group[0].confidence >= SURE) : [];
  const verdict = h("div", { class: "verdict" });
  const shown = h("div", { class: "shown", hidden: true }, pair.element);
  let choices = 0;
  const element = h(
    "div",
    { class: "answer" },
    h("div", { class: "found" }, found ? [verdict, ...notes(answer)] : absent(answer), lists(sure, groups.slice(sure.length), cards)),
    shown,
  );

  /** Shows a match. Gives way after each `await` if another one was chosen meanwhile: it has a map of its own. */
  async function choose(match) {
    choices += 1;
    const choice = choices;
    for (const [other, button] of cards) button.setAttribute("aria-pressed", String(other === match));
    verdict.replaceChildren(...told(match));
    shown.hidden = false;
    shown.querySelector(".error")?.remove();
    announce(`${sureness(match.confidence)}: ${name(match)}, ${where(match)}`);
    try {
      const isScore = match.kind === "score";
      if (isScore) await pair.showScore(match.id, match.systems, match.boxes[0]);
      else pair.showOwnPages(files, match.query_boxes);
      if (choice !== choices) return;
      const [source, start, end] = isScore
        ? [files[0], match.query_start_s, match.query_end_s]
        : [match.id, match.start_s, match.end_s];
      await pair.play(source, { map: match.time_map ?? [], stretch: start === null ? null : [start, end] });
    } catch (error) {
      if (choice !== choices) return;
      announce(error.message);
      shown.prepend(h("p", { class: "note error" }, error.message));
    }
  }

  if (found) choose(answer.matches[0]);
  return { element, close: () => ((choices += 1), pair.close()) };
}

/** Returns what is said of the match that is shown. */
function told(match) {
  return [
    h("p", { class: "eyebrow" }, [sureness(match.confidence) || "Nearest", percent(match.confidence)].join(" ").trim()),
    h("h2", {}, name(match)),
    h("p", {}, [match.composer, where(match)].filter(Boolean).join(" · ")),
    h("p", {}, h("a", { href: `#/document/${encodeURIComponent(match.id)}` }, match.kind === "score" ? "Open this score" : "Open this recording")),
  ];
}

function absent(answer) {
  const missing = unseen(answer);
  const title = missing ? "Not found" : "Not in this collection";
  announce(missing ? `Not found. ${missing}` : "This is not in this collection.");
  const kinds = { S: "score", A: "recording" };
  const total = count(answer.plan?.documents ?? answer.collection.documents, kinds[answer.direction.at(-1)] ?? "document");
  return h(
    "div",
    { class: "notice" },
    h("h2", {}, title),
    h("p", {}, `None of ${missing ? "the" : "its"} ${total} ${missing ? "that were searched " : ""}is likely to be this music.`),
    missing && h("p", {}, missing),
    h("p", { class: "hint" }, "A longer or clearer part may still find it: 20 seconds of playing, or whole lines of music."),
  );
}

function notes(answer) {
  const found = [unseen(answer)].filter(Boolean);
  if (answer.partial) found.push("What you gave holds more than one piece; each match is a part of it.");
  if (answer.transposed) {
    found.push(`It was played ${Math.abs(answer.transposed)} semitones ${answer.transposed > 0 ? "lower" : "higher"} than written.`);
  }
  return found.map((text) => h("p", { class: "hint" }, text));
}

/** Returns the list of what is likely, if there is a choice, and of the others, which are out of the way. */
function lists(sure, others, cards) {
  const list = (groups, label) => h("ol", { class: "works", "aria-label": label }, groups.map((group) => h("li", {}, group.map((match) => cards.get(match)))));
  return [
    sure.flat().length > 1 && list(sure, "Likely matches"),
    others.length > 0 && h("details", {}, h("summary", {}, sure.length ? "Less likely matches" : "Show the nearest all the same"), list(others, "Less likely matches")),
  ];
}

/** Returns the matches by work: editions and takes of one work together, in the order of the best of each. */
function works(matches) {
  const groups = new Map();
  for (const match of matches) {
    const key = match.work ? `${match.composer}\n${match.work}\n${match.title}` : `\n${match.id}`;
    groups.set(key, [...(groups.get(key) ?? []), match]);
  }
  return [...groups.values()];
}

function card(match, choose) {
  const sure = match.confidence ?? 0;
  const meter = match.confidence === null ? null : h("meter", { min: 0, max: 1, low: 0.1, high: 0.5, optimum: 1, value: sure, "aria-hidden": "true" });
  return h(
    "button",
    { type: "button", class: sure >= 0.5 ? "work" : "work faint", "aria-pressed": "false", onclick: () => choose(match) },
    h("span", { class: "name" }, name(match)),
    h("span", { class: "by" }, [match.composer, where(match)].filter(Boolean).join(" · ")),
    h("span", { class: "sure" }, meter, h("span", {}, `${sureness(match.confidence)} ${percent(match.confidence)}`.trim())),
  );
}
