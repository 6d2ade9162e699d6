/** Builds elements without any markup in texts: titles of documents are written by anybody. */

const SVG = "http://www.w3.org/2000/svg";

/** Returns an element. Properties that begin with `on` are listeners; `null` and `false` children are left out. */
export function h(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

/** Returns an element of SVG. */
export function svg(name, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, name), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

/** Tells people who do not see the page what has changed. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}
