/** Listens to the microphone and asks the server, while the music goes on, what it is. */

import { ApiError } from "./api.js";
import { token } from "./token.js";

/** Seconds of samples in one message, at most: the server takes messages of 1 MiB. */
const MAX_S = 4;
/** Seconds between two questions. */
const PAUSE_S = 1;
/** What is kept, at most: the last ten minutes, and no more samples than the server takes in a file of 64 MiB. */
const KEPT_S = 600;
const KEPT_SAMPLES = 30e6;

export class Microphone {
  /** heard: gets the level of a block, 0..1. answered: gets each answer, and when the last samples were sent that it has heard. failed: gets the error that ends it. */
  constructor({ heard, answered, failed }) {
    this.heard = heard;
    this.answered = answered;
    this.failed = failed;
    this.waiting = [];
    this.kept = [];
    this.keptSamples = 0;
    this.asking = true;
  }

  /**
   * Starts; rejects if there is no microphone, or it may not be used.
   * Somebody may stop while the browser asks whether it may be used: it is then released as soon as it is there.
   */
  async start() {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    if (!navigator.mediaDevices) throw new ApiError("microphone", "A browser lends its microphone over HTTPS or on this machine only.", 0);
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...plain } });
    if (this.stopped) return this.#release();
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/page/recorder.js");
    if (this.stopped) return;
    const recorder = new AudioWorkletNode(this.context, "recorder");
    recorder.port.onmessage = ({ data }) => this.#hear(data);
    this.context.createMediaStreamSource(this.stream).connect(recorder);
    this.#connect();
  }

  /** Stops, and returns what was heard as a file. */
  stop() {
    this.stopped = true;
    this.#release();
    return wav(this.kept, this.context?.sampleRate ?? 48000);
  }

  #release() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.context?.close();
    this.socket?.close();
  }

  #connect() {
    this.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/stream`);
    this.socket.binaryType = "arraybuffer";
    const opening = { rate: this.context.sampleRate, path: true, top: 3, samples: "<f4" };
    this.socket.onopen = () => this.socket.send(JSON.stringify(token() ? { ...opening, token: token() } : opening));
    this.socket.onmessage = ({ data }) => {
      if (this.stopped) return;
      const answer = JSON.parse(new TextDecoder().decode(data));
      if (answer.error) this.failed(new ApiError(answer.error.code, answer.error.message, 0));
      else if (answer.matches) this.answered(answer, this.sentAt);
      setTimeout(() => this.#ask(), PAUSE_S * 1000);
    };
    this.socket.onclose = () => this.stopped || this.failed(new ApiError("connection_lost", "the connection to the server is lost", 0));
  }

  #hear(block) {
    if (this.stopped) return;
    this.#keep(block);
    this.waiting.push(block);
    this.heard(Math.min(1, 3 * Math.sqrt(block.reduce((sum, sample) => sum + sample * sample, 0) / block.length)));
    if (this.idle) this.#ask();
  }

  #keep(block) {
    this.kept.push(block);
    this.keptSamples += block.length;
    const most = Math.min(KEPT_S * this.context.sampleRate, KEPT_SAMPLES);
    while (this.keptSamples > most) this.keptSamples -= this.kept.shift().length;
  }

  /** Sends what waits, as soon as the last question is answered: a slow server gets fewer and longer parts. */
  #ask() {
    if (this.stopped || this.socket.readyState !== WebSocket.OPEN) return;
    this.idle = this.waiting.length === 0;
    if (this.idle) return;
    const most = Math.max(1, Math.floor((MAX_S * this.context.sampleRate) / this.waiting[0].length));
    this.socket.send(joined(this.waiting.splice(0, most)));
    this.sentAt = performance.now();
  }
}

function joined(blocks) {
  const all = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    all.set(block, at);
    at += block.length;
  }
  return all;
}

/** Returns blocks of samples as a WAV file of 16 bits. */
function wav(blocks, rate) {
  const samples = joined(blocks);
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, value) => [...value].forEach((character, i) => view.setUint8(at + i, character.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new File([view], "microphone.wav", { type: "audio/wav" });
}
