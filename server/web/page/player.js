/** Plays a recording while its score follows: the cursor, the pages and the waveform move with the sound. */

import { announce, h } from "./dom.js";
import { clock } from "./format.js";
import { Waveform } from "./wave.js";

export class Player {
  /**
   * score: a ScoreView, or null. map: the TimeMap of score and recording. stretch: [start, end] that matches, or null.
   * moved: is called with the second when somebody seeks or pauses, so that the address can name it.
   */
  constructor({ score, moved = () => {} }) {
    this.score = score;
    this.moved = moved;
    this.map = null;
    this.wave = new Waveform({ seek: (second) => this.seek(second) });
    this.audio = h("audio", {
      preload: "auto",
      onplay: () => this.#playing(true),
      onpause: () => this.#playing(false),
      ontimeupdate: () => this.#follow(),
      onseeked: () => this.#follow(),
      ondurationchange: () => this.wave.set({ duration: finite(this.audio.duration) }),
      onerror: () => this.#unplayable(),
    });
    this.button = h("button", { type: "button", class: "play primary", "aria-label": "Play", onclick: () => this.toggle() }, "▶");
    this.time = h("span", { class: "time" }, "0:00");
    this.note = h("p", { class: "note", hidden: true });
    this.element = h("div", { class: "player" }, this.button, this.wave.element, this.time, this.note, this.audio);
  }

  /** Takes a recording and its map. source: a File, or an address. start: second at which it begins. */
  async load(source, { map, stretch, start = 0 }) {
    this.map = map;
    this.note.hidden = true;
    if (this.local) URL.revokeObjectURL(this.local);
    this.local = source instanceof Blob ? URL.createObjectURL(source) : null;
    this.audio.src = this.local ?? source;
    this.wave.duration = 0;
    this.wave.set({ duration: map.end, stretch, jumps: map.jumps });
    this.wave.load(source);
    this.seek(start, { silent: true });
  }

  /** Plays or pauses. */
  async toggle() {
    if (!this.audio.paused) return this.audio.pause();
    try {
      await this.audio.play();
    } catch (error) {
      if (error.name !== "AbortError") this.#unplayable();
    }
  }

  /** Goes to a second. */
  seek(second, { silent = false } = {}) {
    this.audio.currentTime = second;
    this.second = second;
    this.#show(second);
    if (!silent) this.moved(second);
  }

  /** Goes to where the music is at a place of the score. */
  seekTo(system, x) {
    const second = this.map?.secondOf(system, x, this.audio.currentTime);
    if (second === null || second === undefined) announce("This place is not in the recording.");
    else this.seek(second);
  }

  /** Stops for good. */
  close() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
    if (this.local) URL.revokeObjectURL(this.local);
  }

  #playing(on) {
    this.button.textContent = on ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", on ? "Pause" : "Play");
    if (on) this.#tick();
    else this.moved(this.audio.currentTime);
  }

  #tick() {
    if (this.audio.paused) return;
    this.#follow();
    requestAnimationFrame(() => this.#tick());
  }

  #follow() {
    if (this.audio.readyState > 0) this.#show(this.audio.currentTime);
  }

  #show(second) {
    this.second = second;
    this.time.textContent = `${clock(second)} / ${clock(this.wave.duration)}`;
    this.wave.point(second);
    this.score?.point(this.map?.at(second) ?? null);
  }

  #unplayable() {
    if (!this.audio.getAttribute("src")) return;
    this.note.hidden = false;
    this.note.textContent = "This browser cannot play this recording. The waveform still leads through the score.";
  }
}

function finite(duration) {
  return Number.isFinite(duration) ? duration : 0;
}
