/** The head of the page: where one is, the theme, and the key. */
import { html, useState } from "../vendor/htm-preact.js";
import { chooseTheme, readTheme } from "../data/preferences.js";
import { useStore } from "../lib/store.js";
import { model } from "../model/model.js";
import { session } from "../service/http.js";
import { Icon, IconButton } from "./ui.js";

const THEMES = ["system", "light", "dark"];

export function Header({ view }) {
  const { status, name } = useStore(model);
  const { key } = useStore(session);
  const [theme, setTheme] = useState(readTheme());
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const change = () => {
    chooseTheme(next);
    setTheme(next);
  };
  return html`<header class="top">
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <a class="brand" href="#draw">
      <span class="mark" aria-hidden="true"><i></i><i></i></span>Re-Imagen
    </a>
    <nav aria-label="Views">
      <a href="#draw" aria-current=${view === "draw" ? "page" : undefined}>Draw</a>
      <a href="#knowledge" aria-current=${view === "knowledge" ? "page" : undefined}>
        <span class="wide-only">Knowledge base</span><span class="narrow-only">Base</span>
      </a>
    </nav>
    <div class="tools">
      ${status === "ready" && html`<span class="cascade wide-only" title="Loaded cascade">${name}</span>`}
      <a class="wide-only" href="docs">API</a>
      ${key && html`<${IconButton} icon="key" label="Change the API key" onClick=${() => session.set({ asking: true })} />`}
      <button type="button" class="icon-button" onClick=${change} title=${`Theme: ${theme}`}
        aria-label=${`Theme: ${theme}. Change to ${next}`}>
        <${Icon} name="theme" />
      </button>
    </div>
  </header>`;
}

/** Go to the content without a change of the address, which chooses the view. */
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
