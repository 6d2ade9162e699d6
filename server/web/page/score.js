/** A page of a score with its systems: zoom, pan, a cursor, and clicks that say where. */

import { h, svg } from "./dom.js";

const ZOOMS = [1, 1.25, 1.5, 2, 2.5, 3, 4];
/** Room above and below a system that belongs to it, as a share of its height. */
const MARGIN = 0.18;

export class ScoreView {
  /**
   * systems: [{page, system, x0, y0, x1, y1, turn}] of the whole score, in page widths.
   * picture: returns (a promise of) the address of the picture of a page, turned.
   * picked: is called with the number of a system and x when a place is chosen.
   */
  constructor({ title, pages, systems, picture, picked }) {
    this.pages = pages;
    this.systems = systems;
    this.picture = picture;
    this.picked = picked;
    this.matched = new Set();
    this.page = 0;
    this.turn = 0;
    this.zoom = 0;
    this.place = null;
    this.image = h("img", { alt: "", draggable: "false", onload: () => this.#sized(), onerror: () => this.#unseen() });
    this.overlay = svg("svg", { class: "overlay", "aria-hidden": "true", preserveAspectRatio: "none" });
    this.sheet = h("div", { class: "sheet" }, this.image, this.overlay);
    this.note = h("p", { class: "note", hidden: true });
    this.stage = h(
      "div",
      { class: "stage", tabindex: "0", role: "group", "aria-label": `Score: ${title}`, onkeydown: (event) => this.#key(event) },
      this.sheet,
      this.note,
    );
    this.label = h("span", { class: "page-number", "aria-live": "off" });
    const button = (label, text, action) => h("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
    this.previous = button("Previous page", "‹", () => this.show(this.page - 1));
    this.next = button("Next page", "›", () => this.show(this.page + 1));
    this.smaller = button("Smaller", "−", () => this.#zoomBy(-1));
    this.larger = button("Larger", "+", () => this.#zoomBy(1));
    this.element = h(
      "section",
      { class: "score", "aria-label": "Score" },
      h("div", { class: "tools" }, this.previous, this.label, this.next, h("span", { class: "gap" }), this.smaller, this.larger),
      this.stage,
    );
    this.#listen();
  }

  /** Marks systems, by their numbers, as what matches. */
  mark(numbers) {
    this.matched = new Set(numbers);
    this.#draw();
  }

  /** Shows a page. */
  async show(page, turn) {
    page = Math.min(Math.max(1, page), Math.max(1, this.pages));
    turn ??= this.systems.find((system) => system.page === page)?.turn ?? 0;
    if (page === this.page && turn === this.turn) return;
    [this.page, this.turn] = [page, turn];
    this.label.textContent = `${page} / ${this.pages}`;
    [this.previous.disabled, this.next.disabled] = [page <= 1, page >= this.pages];
    this.overlay.replaceChildren();
    this.image.alt = `Page ${page}`;
    this.sheet.classList.add("loading");
    try {
      const address = await this.picture(page, turn);
      if (page !== this.page) return;
      this.image.src = address;
      this.stage.scrollTo(0, 0);
      if (page < this.pages) this.#prefetch(page + 1);
    } catch (error) {
      this.#unseen(error.message);
    }
  }

  /** Puts the cursor at {page, system, x}, or takes it away; keeps it in view if it has moved to another system. */
  point(place) {
    const before = this.place;
    this.place = place;
    if (!place) return this.#drawCursor();
    const system = this.#system(place.system);
    if (!system) return;
    if (place.page !== this.page || system.turn !== this.turn) this.show(place.page, system.turn);
    this.#drawCursor();
    if (before?.system !== place.system || this.zoom > 0) this.#reveal(system, place.x);
  }

  #system(number) {
    return this.systems.find((system) => system.system === number);
  }

  #shown() {
    return this.systems.filter((system) => system.page === this.page && system.turn === this.turn);
  }

  #prefetch(page) {
    const turn = this.systems.find((system) => system.page === page)?.turn ?? 0;
    Promise.resolve(this.picture(page, turn)).then((address) => (new Image().src = address), () => {});
  }

  #sized() {
    this.sheet.classList.remove("loading");
    this.note.hidden = true;
    this.ratio = this.image.naturalHeight / this.image.naturalWidth;
    this.overlay.setAttribute("viewBox", `0 0 1 ${this.ratio}`);
    this.#draw();
    const target = this.place?.page === this.page ? this.#system(this.place.system) : this.#shown().find((s) => this.matched.has(s.system));
    if (target) this.#reveal(target, target.x0, "instant");
  }

  #unseen(why = "This page cannot be shown.") {
    if (!this.image.getAttribute("src") || this.image.complete) {
      this.sheet.classList.remove("loading");
      this.note.hidden = false;
      this.note.textContent = why;
    }
  }

  #draw() {
    if (!this.ratio) return;
    const boxes = this.#shown().map((system) => {
      const margin = MARGIN * (system.y1 - system.y0);
      return svg("rect", {
        class: this.matched.has(system.system) ? "system matched" : "system",
        "data-system": system.system,
        x: system.x0 - 0.008,
        y: system.y0 - margin,
        width: system.x1 - system.x0 + 0.016,
        height: system.y1 - system.y0 + 2 * margin,
        rx: 0.006,
      });
    });
    this.cursor = svg("line", { class: "cursor", visibility: "hidden" });
    this.overlay.replaceChildren(...boxes, this.cursor);
    this.#drawCursor();
  }

  #drawCursor() {
    if (!this.cursor) return;
    const system = this.place && this.place.page === this.page && this.#system(this.place.system);
    for (const box of this.overlay.querySelectorAll(".now")) box.classList.remove("now");
    this.cursor.setAttribute("visibility", system ? "visible" : "hidden");
    this.stage.dataset.system = system ? system.system : "";
    if (!system) return;
    this.overlay.querySelector(`[data-system="${system.system}"]`)?.classList.add("now");
    const margin = MARGIN * (system.y1 - system.y0);
    const ends = { x1: this.place.x, x2: this.place.x, y1: system.y0 - margin, y2: system.y1 + margin };
    for (const [name, value] of Object.entries(ends)) this.cursor.setAttribute(name, value);
  }

  /** Scrolls so that a system is in view, and x of it. */
  #reveal(system, x, behavior = "smooth") {
    const width = this.sheet.clientWidth;
    const [top, bottom] = [system.y0 * width, system.y1 * width];
    const { scrollTop, clientHeight, scrollLeft, clientWidth } = this.stage;
    const inView = top >= scrollTop && bottom <= scrollTop + clientHeight;
    const left = this.sheet.offsetLeft + x * width;
    const beside = left < scrollLeft + 0.1 * clientWidth || left > scrollLeft + 0.8 * clientWidth;
    if (inView && !(beside && width > clientWidth)) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.stage.scrollTo({
      top: inView ? scrollTop : Math.max(0, (top + bottom - clientHeight) / 2),
      left: Math.max(0, left - 0.2 * clientWidth),
      behavior: calm ? "instant" : behavior,
    });
  }

  #zoomBy(step, at = null) {
    const before = ZOOMS[this.zoom];
    this.zoom = Math.min(Math.max(0, this.zoom + step), ZOOMS.length - 1);
    const factor = ZOOMS[this.zoom] / before;
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.stage;
    const [x, y] = at ?? [clientWidth / 2, clientHeight / 2];
    const across = scrollLeft + x - this.sheet.offsetLeft;
    this.sheet.dataset.zoom = ZOOMS[this.zoom];
    this.sheet.style.setProperty("--zoom", ZOOMS[this.zoom]);
    const left = across * factor + this.sheet.offsetLeft - x;
    this.stage.scrollTo({ left, top: (scrollTop + y) * factor - y, behavior: "instant" });
    [this.smaller.disabled, this.larger.disabled] = [this.zoom === 0, this.zoom === ZOOMS.length - 1];
  }

  #listen() {
    this.smaller.disabled = true;
    let drag = null;
    this.stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const bounds = this.stage.getBoundingClientRect();
      this.#zoomBy(event.deltaY < 0 ? 1 : -1, [event.clientX - bounds.left, event.clientY - bounds.top]);
    }, { passive: false });
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button === 0) drag = { x: event.clientX, y: event.clientY, left: this.stage.scrollLeft, top: this.stage.scrollTop, moved: false };
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!drag || event.pointerType !== "mouse") return;
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      drag.moved ||= Math.hypot(dx, dy) > 4;
      if (drag.moved) this.stage.scrollTo({ left: drag.left - dx, top: drag.top - dy, behavior: "instant" });
    });
    this.stage.addEventListener("pointercancel", () => (drag = null));
    this.stage.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 8) this.#click(event);
      drag = null;
    });
    this.stage.addEventListener("pointerleave", () => (drag = null));
  }

  #click(event) {
    const bounds = this.sheet.getBoundingClientRect();
    const [x, y] = [(event.clientX - bounds.left) / bounds.width, (event.clientY - bounds.top) / bounds.width];
    const distance = (system) => Math.max(system.y0 - y, y - system.y1, 0);
    const near = this.#shown().sort((a, b) => distance(a) - distance(b))[0];
    if (near && distance(near) < (near.y1 - near.y0) / 2) this.picked(near.system, x);
  }

  #key(event) {
    const actions = {
      PageUp: () => this.show(this.page - 1),
      PageDown: () => this.show(this.page + 1),
      "+": () => this.#zoomBy(1),
      "-": () => this.#zoomBy(-1),
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  }
}
