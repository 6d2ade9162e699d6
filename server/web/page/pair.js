/** A score and a recording side by side: what the answer and the page of a document show. */

import { drawn, get, media, pagePath, soundPath } from "./api.js";
import { h } from "./dom.js";
import { Player } from "./player.js";
import { ScoreView } from "./score.js";
import { TimeMap } from "./timemap.js";

/** Width of a picture of a page in px, by the width of the window. */
const width = () => (Math.min(innerWidth, 1400) * (devicePixelRatio || 1) > 1300 ? 1800 : 1200);

/** Kinds of images that browsers show. */
const SHOWN = /\.(png|jpe?g|jpe|jfif|webp|gif|bmp|avif|svg)$/i;

export class Pair {
  /** moved: is called with the second when somebody seeks or pauses. */
  constructor({ moved } = {}) {
    this.player = new Player({ score: null, moved });
    this.place = h("div", { class: "score-place" });
    this.element = h("div", { class: "pair" }, this.place, this.player.element);
    this.player.element.hidden = true;
    /** How many scores and how many recordings were begun. What was begun earlier compares them after each `await`. */
    [this.shows, this.plays] = [0, 0];
    [this.scoreId, this.score] = [null, null];
  }

  /**
   * Shows a score of the collection with the systems that match. box: of the first of them, if it is known.
   * Returns without effect if another score was asked for meanwhile. Rejects if the server does not tell its systems.
   */
  async showScore(id, matched = [], box = null) {
    if (this.scoreId !== id) {
      this.#clear(id);
      this.placing = this.#fetch(id, matched, box);
    }
    const show = this.shows;
    await this.placing;
    if (show === this.shows) this.score.mark(matched);
  }

  async #fetch(id, matched, box) {
    const show = this.shows;
    const picture = remembered((page, turn) => media(pagePath(id, page, turn, width())));
    if (box) picture(box.page, box.turn).then((address) => (new Image().src = address), () => {});  // while the facts come
    let facts;
    try {
      facts = await get(`/documents/${encodeURIComponent(id)}`);
    } catch (error) {
      if (show !== this.shows) return;
      this.scoreId = null; // so that the next call asks again
      throw error;
    }
    if (show !== this.shows) return;
    this.#place({
      title: facts.title,
      pages: facts.pages,
      systems: facts.systems,
      picture,
    }, matched);
  }

  /** Shows the pages that were asked about. boxes: of their systems. */
  showOwnPages(files, boxes) {
    this.#clear(null);
    const picture = remembered((page, turn) => ownPicture(files, page, turn));
    const pages = Math.max(files.length, ...boxes.map(({ page }) => page));
    this.#place({ title: "your pages", pages, systems: boxes, picture }, boxes.map(({ system }) => system));
  }

  /**
   * Plays a recording. source: a File, or the id of a document. map, stretch: what joins it to the score.
   * Returns without effect if another recording or score was asked for meanwhile.
   */
  async play(source, { map, stretch, start = null }) {
    this.plays += 1;
    const play = this.plays;
    const address = source instanceof Blob ? source : await media(soundPath(source));
    if (play !== this.plays) return;
    this.player.element.hidden = false;
    const time = new TimeMap(map);
    await this.player.load(address, { map: time, stretch, start: start ?? stretch?.[0] ?? 0 });
  }

  close() {
    this.#clear(null);
    this.player.close();
  }

  /** Takes the score away, and the map that leads through it: the next score must not be followed by an older map. */
  #clear(id) {
    this.shows += 1;
    this.plays += 1;
    [this.scoreId, this.score] = [id, null];
    [this.player.score, this.player.map] = [null, null];
    this.place.replaceChildren();
  }

  #place(facts, matched) {
    this.score = new ScoreView({ ...facts, picked: (system, x) => this.player.seekTo(system, x) });
    this.player.score = this.score;
    this.place.replaceChildren(this.score.element);
    this.score.mark(matched);
    const first = facts.systems.find(({ system }) => matched.includes(system)) ?? facts.systems[0];
    this.score.show(first?.page ?? 1, first?.turn);
  }
}

/** Returns a function that asks `picture` once for each page and turn, and again if that failed. */
function remembered(picture) {
  const known = new Map();
  return (page, turn) => {
    const key = `${page} ${turn}`;
    if (!known.has(key)) known.set(key, picture(page, turn).catch((error) => (known.delete(key), Promise.reject(error))));
    return known.get(key);
  };
}

/** Returns the address of a picture of a page of files: of the file itself, or drawn where a browser cannot show it. */
async function ownPicture(files, page, turn) {
  const [first] = files;
  if (files.length === 1 && !SHOWN.test(first.name)) return drawn(files, page, turn, width());
  const file = files[page - 1];
  if (!file) throw new Error("There is no such page.");
  if (!SHOWN.test(file.name)) return drawn([file], 1, turn, width());
  return turn ? turned(file, turn) : URL.createObjectURL(file);
}

/** Returns the address of a picture of a file turned clockwise by 90, 180 or 270 degrees. */
async function turned(file, turn) {
  const image = await createImageBitmap(file);
  const [wide, high] = turn === 180 ? [image.width, image.height] : [image.height, image.width];
  const canvas = h("canvas", { width: wide, height: high });
  const pen = canvas.getContext("2d");
  pen.translate(wide / 2, high / 2);
  pen.rotate((turn * Math.PI) / 180);
  pen.drawImage(image, -image.width / 2, -image.height / 2);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(URL.createObjectURL(blob))));
}
