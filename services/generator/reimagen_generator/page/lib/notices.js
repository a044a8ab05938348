/** Short messages at the edge of the page, and announcements to screen readers. */
import { createStore } from "./store.js";

const SHOWN_MILLISECONDS = 9_000;

/** @typedef {{id: number, text: string, kind: "note" | "error"}} Notice */

/** @type {ReturnType<typeof createStore<{shown: Notice[], spoken: string}>>} */
export const notices = createStore({ shown: [], spoken: "" });
let last = 0;

/** Show a message for a while.
 * @param {string} text @param {"note" | "error"} kind */
export function notify(text, kind = "note") {
  const id = ++last;
  notices.set(({ shown }) => ({ shown: [...shown.filter((one) => one.text !== text), { id, text, kind }] }));
  setTimeout(() => dismiss(id), SHOWN_MILLISECONDS);
}

/** Show the message of an error.
 * @param {unknown} error */
export const notifyError = (error) => notify(error instanceof Error ? error.message : String(error), "error");

/** Remove a message.
 * @param {number} id */
export const dismiss = (id) => notices.set(({ shown }) => ({ shown: shown.filter((one) => one.id !== id) }));

/** Announce a text to screen readers.
 * @param {string} spoken */
export const announce = (spoken) => notices.set({ spoken });
