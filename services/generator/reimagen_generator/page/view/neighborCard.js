/** One neighbor: its image, what it shows, and what can be done with it. */
import { html, useState } from "../vendor/htm-preact.js";
import { imagesIn } from "../data/images.js";
import { sentence } from "../lib/format.js";
import { changeNeighbor, moveNeighbor, removeNeighbor, toggleCutOut, useOwnImage } from "../model/neighbors.js";
import { AddPairDialog } from "./addPair.js";
import { BlobImage, FileButton, Icon, IconButton, PairImage, Source } from "./ui.js";

const MOVED = "application/x-reimagen-neighbor";

/** @param {{neighbor: import("../model/composer.js").Neighbor, number: number, count: number}} props */
export function NeighborCard({ neighbor, number, count }) {
  const [isAdding, setAdding] = useState(false);
  const [isTarget, setTarget] = useState(false);
  const { key, caption, cutOut } = neighbor;
  const isOwn = neighbor.kind === "own";
  const isCutting = cutOut && !cutOut.image && !cutOut.warning;
  const name = caption || `image ${number}`;

  const dragStart = (event) => {
    event.dataTransfer.setData(MOVED, key);
    event.dataTransfer.effectAllowed = "move";
  };
  const dragOver = (event) => {
    event.preventDefault();
    setTarget(true);
  };
  const drop = (event) => {
    setTarget(false);
    const moved = event.dataTransfer.getData(MOVED);
    const [file] = imagesIn(event.dataTransfer);
    if (!moved && !file) return;
    event.preventDefault();
    // The page must not take the image for a new neighbor.
    event.stopPropagation();
    dispatchEvent(new Event("drop-handled"));
    if (file) useOwnImage(file, key);
    else if (moved !== key) moveTo(moved, number);
  };

  return html`<li class="neighbor ${isTarget ? "target" : ""}" draggable=${count > 1} onDragStart=${dragStart}
    onDragOver=${dragOver} onDragLeave=${() => setTarget(false)} onDrop=${drop}>
    <div class="neighbor-image">
      ${cutOut?.image
        ? html`<${BlobImage} blob=${cutOut.image} alt=${`${name}, cut out`} />`
        : isOwn
          ? html`<${BlobImage} blob=${neighbor.image} alt=${name} />`
          : html`<${PairImage} id=${neighbor.id} alt=${name} />`}
      <span class="rank" aria-hidden="true">${number}</span>
      <${IconButton} icon="close" label=${`Remove ${name}`} onClick=${() => removeNeighbor(key)} />
    </div>
    <div class="neighbor-text">
      ${isOwn
        ? html`<label class="visually-hidden" for=${key}>What your image shows</label>
            <input id=${key} value=${caption} maxlength="1000" placeholder="What it shows"
              onInput=${(event) => changeNeighbor(key, { caption: event.target.value })} />
            <span class="hint">your image</span>`
        : html`<span class="caption">${caption}</span>
            <span class="hint"><${Source} source=${neighbor.source} /> · ${neighbor.license || "unknown license"}</span>
            <${Why} explanation=${neighbor.explanation} score=${neighbor.score} />`}
      <label class="weight">Weight <span class="value" aria-hidden="true">${neighbor.weight.toFixed(1)}</span>
        <input type="range" min="0" max="3" step="0.1" value=${neighbor.weight}
          onInput=${(event) => changeNeighbor(key, { weight: Number(event.target.value) })} /></label>
      ${cutOut?.warning && html`<span class="hint" role="status">${sentence(cutOut.warning)}</span>`}
      <div class="neighbor-actions">
        <button type="button" class="text-button cut-out" aria-pressed=${Boolean(cutOut)} onClick=${() => toggleCutOut(neighbor)}
          title="Use the object of the image without its background" aria-label=${`Cut ${name} out`}>
          <${Icon} name="scissors" />${isCutting ? "Cutting…" : "Cut out"}
        </button>
        ${count > 1 &&
        html`<${IconButton} icon="left" label=${`Move ${name} to the front`} disabled=${number === 1}
            onClick=${() => moveNeighbor(key, -1)} />
          <${IconButton} icon="right" label=${`Move ${name} to the back`} disabled=${number === count}
            onClick=${() => moveNeighbor(key, 1)} />`}
        <${FileButton} icon="swap" hideLabel label=${`Replace ${name} with your own image`}
          onFile=${(file) => useOwnImage(file, key)} />
        ${isOwn &&
        html`<button type="button" class="text-button" onClick=${() => setAdding(true)}>
          <${Icon} name="database" />Add to base
        </button>`}
      </div>
    </div>
    ${isAdding && html`<${AddPairDialog} own=${neighbor} onClose=${() => setAdding(false)} />`}
  </li>`;
}

function moveTo(key, number) {
  const items = [...document.querySelectorAll(".neighbor")];
  moveNeighbor(key, -items.length);
  moveNeighbor(key, number - 1);
}

/** Why a search found a neighbor. */
export function Why({ explanation, score }) {
  if (!explanation) return null;
  const { named = [], terms = [], cosine } = explanation;
  const summary = named.length > 0 ? `names “${named.join("”, “")}”` : terms.length > 0 ? "shares words" : "similar";
  const most = Math.max(...terms.map((term) => term.score), 0.001);
  return html`<details class="why">
    <summary>${summary}</summary>
    ${terms.length > 0 &&
    html`<ul aria-label="Contributions to the score">
      ${terms.map(
        ({ term, score: share }) => html`<li>
          <span>${term}</span><meter min="0" max=${most} value=${share} aria-label=${term}></meter><span>${share.toFixed(2)}</span>
        </li>`,
      )}
    </ul>`}
    <p class="hint">Score ${score?.toFixed(2)}${cosine != null && ` · cosine ${cosine.toFixed(2)}`}</p>
  </details>`;
}
