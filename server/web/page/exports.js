/** What other programs read of a score and its recording: a IIIF manifest and files, one link each. */

import { media } from "./api.js";
import { announce, h } from "./dom.js";
import { token } from "./token.js";

/** Formats by the name of their address: what it is called, the name's ending, and whether it needs a recording. */
const FORMATS = [
  ["iiif", "IIIF manifest", "json", false],
  ["mei", "MEI", "mei", false],
  ["jams", "JAMS", "jams", true],
  ["csv", "Table (CSV)", "csv", true],
  ["audacity", "Labels for Audacity", "txt", true],
  ["sonic-visualiser", "Layer for Sonic Visualiser", "svl", true],
];

/** Returns the links of a score, and of its recording if an id is given. */
export function exportLinks(score, recording) {
  const links = FORMATS.filter(([, , , needed]) => recording || !needed).map(([format, label, suffix]) => {
    const path = address(score, recording, format);
    const kept = { download: `${score}.${suffix}`, href: path };
    return h("li", {}, h("a", { ...kept, onclick: (event) => token() && fetched(event, path) }, label));
  });
  return h("details", { class: "exports" }, h("summary", {}, "For other programs"), h("ul", {}, links));
}

function address(score, recording, format) {
  const path = `/documents/${encodeURIComponent(score)}/${format === "iiif" ? "manifest.json" : `export/${format}`}`;
  return recording ? `${path}?${new URLSearchParams({ recording })}` : path;
}

/** Saves what a link leads to where a token is needed, which a browser does not send with a link. */
async function fetched(event, path) {
  const link = event.currentTarget;
  if (link.href.startsWith("blob:")) return;
  event.preventDefault();
  try {
    link.href = await media(path);
    link.click();
  } catch (error) {
    announce(error.message);
  } finally {
    setTimeout(() => (link.href = path), 1000);
  }
}
