/** Asks the server. Where a token is needed, a dialog asks for it once and the request is sent again. */

import { askedForToken, authorisation, token } from "./token.js";

/** An error that the server or the network reports; `code` is the server's, as in docs/protocol.md. */
export class ApiError extends Error {
  constructor(code, message, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** Returns the JSON of a path. */
export async function get(path, signal) {
  return (await asked(path, { signal })).json();
}

/** Returns the JSON that the server answers to an object. */
export async function post(path, fields, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await asked(path, { method: "POST", body: JSON.stringify(fields), headers, signal })).json();
}

/** Returns an address of a picture of a page of files, which the server draws: browsers show no PDF and no TIFF. */
export async function drawn(files, page, turn, width) {
  const form = new FormData();
  for (const file of files) form.append("media", file, file.name || "pasted.png");
  for (const [name, value] of Object.entries({ kind: "score", page, turn, width })) form.append(name, value);
  const reply = await asked("/pages", { method: "POST", body: form });
  return URL.createObjectURL(await reply.blob());
}

async function asked(path, options) {
  for (;;) {
    let reply;
    try {
      reply = await fetch(path, { ...options, headers: { ...options.headers, ...authorisation() } });
    } catch (error) {
      throw error.name === "AbortError" ? error : unreachable();
    }
    if (reply.ok) return reply;
    if (reply.status === 401 && (await askedForToken())) continue;
    throw failure(reply.status, await reply.text());
  }
}

/**
 * Sends a form and returns the answer.
 * progress: gets the share that has been sent, 0..1, as it grows.
 */
export async function send(path, form, { progress, signal }) {
  for (;;) {
    const reply = await sent(path, form, progress, signal);
    if (reply.status === 200) return JSON.parse(reply.responseText);
    if (reply.status === 401 && (await askedForToken())) continue;
    throw failure(reply.status, reply.responseText);
  }
}

/** fetch does not tell how much of a body has been sent. */
function sent(path, form, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(authorisation())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    request.upload.addEventListener("load", () => progress(1));
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new DOMException("given up", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Returns an address of a picture or sound that an element can load: elements cannot show a token. */
export async function media(path) {
  if (!token()) return path;
  const reply = await fetch(path, { headers: authorisation() });
  if (!reply.ok) throw failure(reply.status, await reply.text());
  return URL.createObjectURL(await reply.blob());
}

/** Returns the path of a picture of a page. */
export function pagePath(id, page, turn, width) {
  return `/documents/${encodeURIComponent(id)}/pages/${page}?turn=${turn}&width=${width}`;
}

/** Returns the path of the sound of a recording. */
export function soundPath(id) {
  return `/documents/${encodeURIComponent(id)}/sound`;
}

function failure(status, text) {
  try {
    const { code, message } = JSON.parse(text).error;
    return new ApiError(code, message, status);
  } catch {
    return new ApiError("internal", `the server answered with status ${status}`, status);
  }
}

function unreachable() {
  return new ApiError("connection_lost", "the server cannot be reached", 0);
}
