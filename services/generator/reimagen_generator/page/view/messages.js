/** Messages, announcements, and the dialog that asks for a key. */
import { html, useRef } from "../vendor/htm-preact.js";
import { dismiss, notices } from "../lib/notices.js";
import { useStore } from "../lib/store.js";
import { loadModel, model } from "../model/model.js";
import { searchSoon } from "../model/neighbors.js";
import { session, useKey } from "../service/http.js";
import { Dialog, IconButton } from "./ui.js";

export function Messages() {
  const { shown, spoken } = useStore(notices);
  return html`<div class="notices" role="region" aria-label="Messages">
      ${shown.map(
        ({ id, text, kind }) => html`<div key=${id} class="notice ${kind}" role=${kind === "error" ? "alert" : "status"}>
          <span>${text}</span><${IconButton} icon="close" label="Close this message" onClick=${() => dismiss(id)} />
        </div>`,
      )}
    </div>
    <div class="visually-hidden" role="status" aria-live="polite">${spoken}</div>`;
}

/** The line that says that the service does not answer. */
export function ServiceDown() {
  const { status, message } = useStore(model);
  if (status !== "down") return null;
  return html`<p class="banner" role="alert">${message} This page tries again by itself.</p>`;
}

export function KeyDialog() {
  const { asking, reason, key } = useStore(session);
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const lasting = useRef(/** @type {HTMLInputElement | null} */ (null));
  if (!asking) return null;
  const submit = (event) => {
    event.preventDefault();
    const given = field.current?.value.trim();
    if (!given) return;
    useKey(given, lasting.current?.checked ?? false);
    loadModel();
    searchSoon(0);
  };
  return html`<${Dialog} title="API key" onClose=${() => session.set({ asking: false })}>
    <form class="stack" onSubmit=${submit}>
      <p>This service requires a key. Its operator makes keys with <code>reimagen-generator keys add</code>.</p>
      ${reason && html`<p class="problem" role="alert">${reason}</p>`}
      <label>Key<input ref=${field} type="password" autocomplete="off" spellcheck="false" required /></label>
      <label class="check"><input ref=${lasting} type="checkbox" /> Remember it on this device</label>
      <p class="hint">Otherwise it is forgotten when you close this tab. It is sent to this service only.</p>
      <div class="row end">
        ${key && html`<button type="button" class="quiet" onClick=${() => useKey(null)}>Forget the key</button>`}
        <button class="primary">Use this key</button>
      </div>
    </form>
  <//>`;
}
