/** The neighbors of the prompt, before anything is drawn. */
import { html } from "../vendor/htm-preact.js";
import { plural, sentence } from "../lib/format.js";
import { useStore } from "../lib/store.js";
import { changeSettings, composer } from "../model/composer.js";
import { forgetChoice, searchSoon, useOwnImage, usePair } from "../model/neighbors.js";
import { NeighborCard } from "./neighborCard.js";
import { FileButton, PairImage, Refused } from "./ui.js";

export function Neighbors() {
  const { neighbors, chosen, found, prompt, settings } = useStore(composer);
  const isOff = settings.k === 0;
  return html`<section class="neighbors-section" aria-labelledby="neighbors-title">
    <div class="section-head">
      <h2 id="neighbors-title">Neighbors</h2>
      <span class="hint">${isOff ? "off" : summary({ neighbors, chosen, found })}</span>
      ${chosen && !isOff && html`<button type="button" class="text-button" onClick=${forgetChoice}>Search again</button>`}
    </div>
    ${isOff
      ? html`<p class="hint">Only the prompt is used.
          <button type="button" class="text-button" onClick=${turnOn}>Use neighbors</button></p>`
      : html`<ol class="neighbors">
            ${neighbors.map(
              (one, index) =>
                html`<${NeighborCard} key=${one.key} neighbor=${one} number=${index + 1} count=${neighbors.length} />`,
            )}
          </ol>
          ${!chosen && html`<${Refused} pairs=${found.refused} />`}
          <${Missing} found=${found} chosen=${chosen} prompt=${prompt} count=${neighbors.length} />
          <div class="own-image">
            <span class="hint">Your own image: drop or paste it, or</span>
            <${FileButton} label="Choose" onFile=${(file) => useOwnImage(file)} className="text-button" />
            <${FileButton} label="Photograph" icon="camera" camera onFile=${(file) => useOwnImage(file)}
              className="text-button" />
          </div>`}
  </section>`;
}

function turnOn() {
  changeSettings({ k: null });
  searchSoon(0);
}

function summary({ neighbors, chosen, found }) {
  if (chosen) return `${plural(neighbors.length, "image")}, chosen by you`;
  if (found.status === "searching") return "searching…";
  if (found.status === "found") {
    const leftOut = found.refused.length > 0 ? `, ${found.refused.length} left out` : "";
    return `${plural(neighbors.length + found.refused.length, "image")} that the prompt names${leftOut}`;
  }
  return "";
}

/** Why there are no neighbors, and what to do. */
function Missing({ found, chosen, prompt, count }) {
  if (chosen) return null;
  if (found.status === "down")
    return html`<div class="empty" role="status">
      <p><strong>The knowledge base does not answer.</strong> You can still draw from the prompt alone, or from your own
        images. This page tries again by itself.</p>
    </div>`;
  if (found.status === "failed") return html`<p class="problem" role="alert">${found.message}</p>`;
  if (found.status === "nothing")
    return html`<div class="empty">
      <p><strong>No neighbor.</strong> ${why(found.nothing)}</p>
      ${found.nearest.length > 0 &&
      html`<p class="hint">Nearest images. Choose one to use it anyway:</p>
        <ul class="candidates">
          ${found.nearest.map(
            (pair) => html`<li key=${pair.id}>
              <button type="button" onClick=${() => usePair(pair)} aria-label=${`Use ${pair.caption}`}>
                <${PairImage} id=${pair.id} /><span>${pair.caption}</span>
              </button>
            </li>`,
          )}
        </ul>`}
      <p class="hint">Without neighbors, the image is drawn from the prompt alone. You can also add what is missing to
        the${" "}<a href="#knowledge">knowledge base</a>.</p>
    </div>`;
  if (found.refused.length > 0)
    return found.status === "found" && count === 0
      ? html`<p class="hint">Without neighbors, the image is drawn from the prompt alone. You can add your own image.</p>`
      : null;
  if (!prompt.trim()) return html`<p class="hint">The images that your prompt names appear here.</p>`;
  return null;
}

const why = ({ reason, nearest, lacking = [] }) =>
  lacking.length > 0 && nearest
    ? `Nothing in the knowledge base shows “${lacking.join("”, “")}”. The nearest caption is “${nearest}”.`
    : sentence(reason);
