/** Words and numbers for people. */

/** Returns a time as M:SS or H:MM:SS. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Returns a number with its noun. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Returns which documents were not searched because a machine did not answer; empty if all were. */
export function unseen(answer) {
  if (!answer.unseen?.length) return "";
  const names = answer.unseen.map((shard) => shard.name).join(", ");
  const documents = answer.unseen.flatMap((shard) => Object.values(shard.documents)).reduce((sum, one) => sum + one, 0);
  return `${count(documents, "document was", "documents were")} not searched, because ${names} did not answer.`;
}

/** Returns the name of a document: its title, with the work if that says more. */
export function name({ title, work, id }) {
  if (title && work && !title.includes(work)) return `${title}, ${work}`;
  return title || work || id;
}

/** Returns how sure an answer is, in a word. */
export function sureness(confidence) {
  if (confidence === null || confidence === undefined) return "";
  if (confidence >= 0.9) return "Very likely";
  if (confidence >= 0.5) return "Likely";
  return confidence >= 0.1 ? "Doubtful" : "Unlikely";
}

/** Returns a confidence as a percentage that never claims to be certain. */
export function percent(confidence) {
  return confidence === null || confidence === undefined ? "" : `${Math.min(99, Math.floor(confidence * 100))} %`;
}

/** Returns where a match lies. */
export function where(match) {
  if (match.start_s !== null) return `${clock(match.start_s)} to ${clock(match.end_s)}`;
  if (!match.systems.length) return "";
  const systems = `${match.systems.length === 1 ? "system" : "systems"} ${ranges(match.systems)}`;
  return `page ${ranges(match.pages)}, ${systems}`;
}

function ranges(numbers) {
  const runs = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else runs.push([number, number]);
  }
  const shown = runs.slice(0, 3).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return shown.join(", ") + (runs.length > 3 ? " …" : "");
}
