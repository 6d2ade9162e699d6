/** Where in a score a recording is at each second, and when it passes a place. See docs/protocol.md, `time_map`. */

export class TimeMap {
  /** stretches: the list of a match. */
  constructor(stretches = []) {
    this.stretches = stretches;
  }

  get isEmpty() {
    return this.stretches.length === 0;
  }

  /** Seconds at which the map begins and ends. */
  get start() {
    return this.stretches[0]?.s[0] ?? 0;
  }

  get end() {
    return this.stretches.at(-1)?.s.at(-1) ?? 0;
  }

  /** Returns {page, system, x, stretch} at a second; null where the map has no stretch. */
  at(second) {
    const found = this.stretches.findLast(({ s }) => s[0] <= second);
    if (!found || second >= found.s.at(-1)) return null;
    return { page: found.page, system: found.system, x: interpolated(second, found.s, found.x), stretch: found };
  }

  /** Returns the second at which the recording passes a place, the one nearest to `near`; null if it never does. */
  secondOf(system, x, near = 0) {
    const seconds = this.stretches
      .filter((stretch) => stretch.system === system)
      .map((stretch) => interpolated(Math.min(Math.max(x, stretch.x[0]), stretch.x.at(-1)), stretch.x, stretch.s));
    const distance = (second) => Math.abs(second - near);
    return seconds.length ? seconds.reduce((best, one) => (distance(one) < distance(best) ? one : best)) : null;
  }

  /** Returns the seconds at which the music jumps. */
  get jumps() {
    return this.stretches.filter((stretch) => stretch.jump).map((stretch) => stretch.s[0]);
  }
}

/** Room of clef and key at the left end of a system, in heights of the system. */
const HEAD = 0.5;

/**
 * Returns the place {page, system, x} that lies further on, where a system ends in the next one.
 * x: may lie beyond the right end of the system. systems: all of the score.
 */
export function onwards({ page, system, x }, systems) {
  const here = systems.find((one) => one.system === system);
  const next = systems.find((one) => one.system === system + 1);
  if (!here || x <= here.x1) return { page, system, x };
  if (!next) return { page, system, x: here.x1 };
  const first = next.x0 + HEAD * (next.y1 - next.y0);
  return { page: next.page, system: next.system, x: Math.min(next.x1, first + x - here.x1) };
}

function interpolated(value, from, to) {
  let i = 1;
  while (i < from.length - 1 && from[i] < value) i += 1;
  const span = from[i] - from[i - 1];
  return span > 0 ? to[i - 1] + ((value - from[i - 1]) / span) * (to[i] - to[i - 1]) : to[i - 1];
}
