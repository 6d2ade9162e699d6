/** The view that asks: a file that is dropped, chosen, pasted or photographed, or the microphone; then the answer. */

import { get, send } from "./api.js";
import { answerView } from "./answer.js";
import { announce, h } from "./dom.js";
import { count } from "./format.js";
import { liveView } from "./live.js";

const IMAGES = ".png,.jpg,.jpeg,.tif,.tiff,.webp,.heic,.avif,.bmp,.gif,.jp2";
const TAKEN = `audio/*,image/*,application/pdf,.pdf,${IMAGES},.flac,.ogg,.opus,.m4a,.aiff,.aif`;
const MOST_MATCHES = 6;

/** Returns the view: {element, close, take}. `take` asks about files. */
export function askView() {
  let child = null;
  let given = null;
  const chooser = h("input", { type: "file", id: "file", class: "visually-hidden", accept: TAKEN, multiple: true, onchange: () => take(chooser.files) });
  const camera = h("input", { type: "file", id: "camera", class: "visually-hidden", accept: "image/*", capture: "environment", onchange: () => take(camera.files) });
  const collection = h("p", { class: "hint" });
  const outcome = h("div", { class: "outcome" });
  const lines = h("div", { class: "staff", "aria-hidden": "true" }, [1, 2, 3, 4, 5].map(() => h("i")));
  const zone = h(
    "div",
    { class: "zone" },
    lines,
    h("p", { class: "lead" }, "Drop a recording or a page of music here"),
    h(
      "div",
      { class: "ways" },
      h("label", { class: "button primary", for: "file" }, "Choose a file"), chooser,
      h("label", { class: "button camera", for: "camera" }, "Take a photo"), camera,
      h("button", { type: "button", onclick: () => listen() }, "Microphone"),
    ),
    h("p", { class: "hint" }, "Sound, PDF or pictures. You can paste, too. Piano music; 20 seconds are best."),
  );
  const intro = h(
    "div",
    { class: "intro" },
    h("h1", {}, "Which music is this?"),
    h("p", { class: "sub" }, "Give a recording to find its score, or a page to find its recordings."),
  );
  const element = h("div", { class: "ask" }, intro, zone, collection, outcome);
  get("/info").then((facts) => {
    const { score, recording } = facts.kinds;
    collection.textContent = `This collection holds ${count(score.documents, "score")} and ${count(recording.documents, "recording")}.`;
  }, (error) => (collection.textContent = error.message));

  function show(view) {
    child?.close();
    given?.abort();
    [child, given] = [view, null];
    element.classList.toggle("answered", view !== null);
    outcome.replaceChildren(...(view ? [view.element] : []));
  }

  async function take(list) {
    const files = [...list];
    if (!files.length) return;
    [chooser.value, camera.value] = ["", ""];
    const giving = new AbortController();
    const progress = progressView(files, () => (giving.abort(), show(null)));
    show(progress);
    given = giving;
    const form = new FormData();
    for (const file of files) form.append("media", file, file.name || "pasted.png");
    form.append("top", MOST_MATCHES);
    form.append("path", "true");
    try {
      const answer = await send("/query", form, { progress: progress.sent, signal: giving.signal });
      if (!giving.signal.aborted) given = null, show(answerView(answer, files));
    } catch (error) {
      if (error.name !== "AbortError") given = null, show(failure(error));
    }
  }

  function listen() {
    show(liveView({ finished: (file) => take([file]), failed: (error) => show(failure(error)) }));
  }

  return { element, take, close: () => show(null) };
}

function progressView(files, giveUp) {
  const label = files.length === 1 ? files[0].name || "your picture" : count(files.length, "page");
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Sent" });
  const text = h("p", {}, `Sending ${label}`);
  const sent = (share) => {
    bar.value = share;
    if (share < 1) return;
    bar.removeAttribute("value");
    text.textContent = `Comparing ${label} with the collection`;
    announce(text.textContent);
  };
  const stop = h("button", { type: "button", onclick: giveUp }, "Give up");
  return { element: h("div", { class: "busy" }, text, bar, stop), sent, close: () => {} };
}

const ADVICE = {
  bad_request: "Give a recording, a PDF, or pictures of pages.",
  media: "Try another file, or a clearer picture of whole lines of music.",
  overloaded: "The server is busy. Try again in a moment.",
  too_many: "The server is busy. Try again in a moment.",
  frame_too_large: "This file is larger than the server takes. A part of 20 to 60 seconds is enough.",
  deadline_exceeded: "It took too long. A part of 20 to 60 seconds is enough.",
};

function failure(error) {
  announce(error.message);
  const element = h(
    "div",
    { class: "verdict failed", role: "alert" },
    h("h2", {}, "That did not work"),
    h("p", {}, ADVICE[error.code] ?? ""),
    h("p", { class: "hint" }, error.message),
  );
  return { element, close: () => {} };
}
