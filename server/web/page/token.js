/** The token of this tab: kept until the tab is closed, and asked for in a dialog where a server needs one. */

import { h } from "./dom.js";

const KEY = "scorefind-token";

/** Returns the token of this tab, or an empty text. */
export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** Returns the headers that show the token. */
export function authorisation() {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

/** Asks for the token, and returns whether one was given. Requests that need it meanwhile wait for the same dialog. */
export function askedForToken() {
  asking ??= asked().finally(() => (asking = null));
  return asking;
}

let asking = null;

async function asked() {
  const field = h("input", { name: "token", type: "password", autocomplete: "off", required: true });
  const dialog = h(
    "dialog",
    { id: "token", "aria-labelledby": "token-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "token-title" }, "This collection needs a token"),
      h("p", {}, "Ask whoever runs this server. The token is kept until you close this tab."),
      h("label", {}, "Token ", field),
      h("button", { class: "primary", value: "ok" }, "Continue"),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  sessionStorage.setItem(KEY, field.value.trim());
  dialog.remove();
  return dialog.returnValue === "ok" && token() !== "";
}
