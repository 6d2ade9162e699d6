/** The waveform of a recording: the matched stretch, the jumps, the playhead; a click or the arrow keys seek. */

import { h } from "./dom.js";
import { clock } from "./format.js";

/** Rate at which a recording is decoded to be drawn, Hz. */
const RATE = 8000;
/** Largest file that is decoded to be drawn, bytes; a longer one is drawn as a plain bar. */
const MAX_BYTES = 64 << 20;
const PEAKS = 1600;

export class Waveform {
  /** seek: is called with the second that is chosen. */
  constructor({ seek }) {
    this.seek = seek;
    this.duration = 0;
    this.second = 0;
    this.stretch = null;
    this.jumps = [];
    this.peaks = null;
    this.loads = 0;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.element = h(
      "div",
      {
        class: "wave",
        role: "slider",
        tabindex: "0",
        "aria-label": "Position in the recording",
        "aria-valuemin": "0",
        "aria-valuenow": "0",
        onpointerdown: (event) => this.#pointed(event),
        onpointermove: (event) => event.buttons && this.#pointed(event),
        onkeydown: (event) => this.#key(event),
      },
      this.canvas,
    );
    new ResizeObserver(() => this.draw()).observe(this.element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Decodes a recording to draw it, unless another one is loaded meanwhile. source: a File, or an address. */
  async load(source) {
    this.peaks = null;
    this.loads += 1;
    const load = this.loads;
    try {
      const blob = source instanceof Blob ? source : await (await fetch(source)).blob();
      if (load !== this.loads || blob.size > MAX_BYTES) return;
      const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
      if (load !== this.loads) return;
      this.peaks = peaks(decoded.getChannelData(0));
      this.duration ||= decoded.duration;
      this.draw();
    } catch {
      // a format that this browser does not decode: the bar stays plain
    }
  }

  /** Sets what is drawn beside the wave. stretch: [start, end] in seconds, or null. */
  set({ duration, stretch, jumps }) {
    if (duration) this.duration = duration;
    if (stretch !== undefined) this.stretch = stretch;
    if (jumps !== undefined) this.jumps = jumps;
    this.element.setAttribute("aria-valuemax", this.duration.toFixed(1));
    this.draw();
  }

  /** Moves the playhead. */
  point(second) {
    this.second = second;
    this.element.setAttribute("aria-valuenow", second.toFixed(1));
    this.element.setAttribute("aria-valuetext", `${clock(second)} of ${clock(this.duration)}`);
    this.draw();
  }

  draw() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !this.duration) return;
    const scale = devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * scale), Math.round(clientHeight * scale)];
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.element);
    const colour = (name) => style.getPropertyValue(name);
    const at = (second) => (second / this.duration) * width;
    pen.clearRect(0, 0, width, height);
    if (this.stretch) {
      pen.fillStyle = colour("--mark-soft");
      pen.fillRect(at(this.stretch[0]), 0, at(this.stretch[1] - this.stretch[0]), height);
    }
    const bars = Math.max(1, Math.floor(width / (3 * scale)));
    for (let i = 0; i < bars; i += 1) {
      const level = this.peaks ? this.#level(i / bars, (i + 1) / bars) : 0.06;
      const inside = !this.stretch || (i / bars >= this.stretch[0] / this.duration && i / bars <= this.stretch[1] / this.duration);
      const past = (i / bars) * this.duration < this.second;
      pen.fillStyle = colour(past ? "--accent" : inside ? "--wave" : "--wave-soft");
      const high = Math.max(2 * scale, level * height * 0.92);
      pen.fillRect((i * width) / bars, (height - high) / 2, 2 * scale, high);
    }
    pen.fillStyle = colour("--mark");
    for (const jump of this.jumps) pen.fillRect(at(jump) - scale / 2, 0, scale, height);
    pen.fillStyle = colour("--cursor");
    pen.fillRect(at(this.second) - scale, 0, 2 * scale, height);
  }

  #level(from, to) {
    const part = this.peaks.slice(Math.floor(from * PEAKS), Math.max(Math.floor(from * PEAKS) + 1, Math.floor(to * PEAKS)));
    return Math.max(...part);
  }

  #pointed(event) {
    const bounds = this.element.getBoundingClientRect();
    this.seek(Math.min(Math.max(0, (event.clientX - bounds.left) / bounds.width), 1) * this.duration);
  }

  #key(event) {
    const steps = { ArrowLeft: -2, ArrowRight: 2, ArrowDown: -2, ArrowUp: 2, PageDown: -15, PageUp: 15 };
    const wanted = { Home: 0, End: this.duration }[event.key] ?? (event.key in steps ? this.second + steps[event.key] : null);
    if (wanted === null) return;
    event.preventDefault();
    this.seek(Math.min(Math.max(0, wanted), this.duration));
  }
}

/** Returns PEAKS levels of samples, 0..1, the loudest 1. */
function peaks(samples) {
  const step = samples.length / PEAKS;
  const found = new Float32Array(PEAKS);
  let loudest = 1e-6;
  for (let i = 0; i < PEAKS; i += 1) {
    let most = 0;
    for (let at = Math.floor(i * step); at < (i + 1) * step && at < samples.length; at += 1) most = Math.max(most, Math.abs(samples[at]));
    found[i] = most;
    loudest = Math.max(loudest, most);
  }
  return found.map((level) => level / loudest);
}
