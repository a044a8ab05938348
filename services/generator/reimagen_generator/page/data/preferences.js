/** Small values that the browser keeps: theme, API key, draft. */

const PREFIX = "reimagen.";

/** Return a stored value, or null. It may be blocked by the browser.
 * @param {Storage | null} storage @param {string} name */
function read(storage, name) {
  try {
    return storage?.getItem(PREFIX + name) ?? null;
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    if (value === null) storage?.removeItem(PREFIX + name);
    else storage?.setItem(PREFIX + name, value);
  } catch {
    // Storage is full or blocked: the value lasts as long as the page.
  }
}

function storageOf(name) {
  try {
    return window[name];
  } catch {
    return null;
  }
}

const lasting = storageOf("localStorage");
const passing = storageOf("sessionStorage");

export const readTheme = () => read(lasting, "theme") ?? "system";

/** Choose a theme: light, dark, or that of the system. */
export function chooseTheme(theme) {
  write(lasting, "theme", theme === "system" ? null : theme);
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export const readKey = () => read(passing, "key") ?? read(lasting, "key");

/** Keep an API key: for this tab, or on this device. Null forgets it. */
export function keepKey(key, onDevice = false) {
  write(passing, "key", onDevice ? null : key);
  write(lasting, "key", onDevice ? key : null);
}

/** Return the prompt and settings of the last visit, or null. */
export function readDraft() {
  try {
    return JSON.parse(read(lasting, "draft") ?? "null");
  } catch {
    return null;
  }
}

export const keepDraft = (draft) => write(lasting, "draft", JSON.stringify(draft));
