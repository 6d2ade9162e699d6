/** What is shown while somebody plays: how loud it is, the best guess so far, and then the score, which follows. */

import { announce, h } from "./dom.js";
import { clock, name, sureness, where } from "./format.js";
import { Microphone } from "./microphone.js";
import { Pair } from "./pair.js";
import { TimeMap, onwards } from "./timemap.js";

/** Seconds that the cursor moves on without an answer. */
const MOST_AHEAD_S = 4;

/** Returns the view: {element, close}. finished: gets a file of what was heard when somebody stops. */
export function liveView({ finished, failed }) {
  const pair = new Pair();
  const level = h("meter", { min: 0, max: 1, value: 0, "aria-label": "Level of the microphone" });
  const time = h("span", { class: "time" }, "0:00");
  const guess = h("div", { class: "verdict" }, h("p", { class: "eyebrow" }, "Listening"), h("h2", {}, "Play at least five seconds"));
  const stop = h("button", { type: "button", class: "primary", onclick: () => finish() }, "Stop");
  const shown = h("div", { class: "shown", hidden: true }, pair.element);
  let [best, map, heardAt] = [null, new TimeMap(), 0];
  const microphone = new Microphone({
    heard: (value) => (level.value = value),
    answered,
    failed: (error) => (close(), failed(error)),
  });

  /** sentAt: when the last samples were sent that the answer has heard. */
  function answered(answer, sentAt) {
    time.textContent = clock(answer.heard_s);
    const match = answer.matches[0];
    if (!match) return;
    const sure = sureness(match.confidence);
    guess.replaceChildren(
      h("p", { class: "eyebrow" }, answer.in_collection === false ? "Perhaps, not sure yet" : sure || "Nearest"),
      h("h2", {}, name(match)),
      h("p", {}, [match.composer, where(match)].filter(Boolean).join(" · ")),
    );
    if (answer.in_collection === false) return;
    if (match.id !== best) announce(`${sure} ${name(match)}`);
    [best, map, heardAt] = [match.id, new TimeMap(match.time_map), sentAt];
    shown.hidden = false;
    pair.showScore(match.id, []).catch((error) => microphone.stopped || failed(error));
  }

  /** Moves the cursor on between two answers, at the pace of the last seconds. */
  function follow() {
    if (microphone.stopped) return;
    const last = map.stretches.at(-1);
    if (last && pair.score) {
      const passed = Math.min((performance.now() - heardAt) / 1000, MOST_AHEAD_S);
      const from = Math.max(0, last.s.length - 8);
      const pace = (last.x.at(-1) - last.x[from]) / Math.max(0.1, last.s.at(-1) - last.s[from]);
      const x = last.x.at(-1) + passed * pace;
      pair.score.point(onwards({ page: last.page, system: last.system, x }, pair.score.systems));
    }
    requestAnimationFrame(follow);
  }

  function finish() {
    const file = microphone.stop();
    pair.close();
    finished(file);
  }

  function close() {
    if (!microphone.stopped) microphone.stop();
    pair.close();
  }

  microphone.start().then(follow, (error) => {
    if (microphone.stopped) return; // somebody has gone on to something else
    close();
    failed(error.name === "NotAllowedError" ? new Error("The microphone may not be used. Allow it in the browser's settings.") : error);
  });
  const bar = h("div", { class: "live-bar" }, h("span", { class: "dot", "aria-hidden": "true" }), level, time, stop);
  return { element: h("div", { class: "answer live" }, h("div", { class: "found" }, guess, bar), shown), close };
}
