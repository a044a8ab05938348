/** One drawing: its neighbors first, then its previews, then the image. */
import { html } from "../vendor/htm-preact.js";
import { useStore } from "../lib/store.js";
import { model } from "../model/model.js";
import { BlobImage, PairImage, useBlobUrl } from "./ui.js";

/** @param {{drawing: import("../model/drawings.js").Drawing, large: boolean}} props */
export function Canvas({ drawing, large }) {
  const finished = useBlobUrl(drawing.image);
  const shown = finished || drawing.preview;
  const { status, title, label, taken } = drawing;
  const name = [taken.prompt, label || title].filter(Boolean).join(", ");
  return html`<div class="canvas ${status} ${large ? "large" : ""}">
    ${large && shown && html`<img class="glow" src=${shown} alt="" aria-hidden="true" />`}
    <div class="picture">
      ${!shown && html`<${Grounds} drawing=${drawing} />`}
      ${shown &&
      html`<img class=${finished ? "final" : "preview"} src=${shown} alt=${finished ? name : `Preview: ${name}`} />`}
      ${(status === "failed" || status === "cancelled") &&
      html`<p class="failure">${status === "cancelled" ? "Cancelled" : drawing.error || "Drawing failed."}</p>`}
    </div>
    <${Progress} drawing=${drawing} />
  </div>`;
}

/** The neighbors, while there is nothing else to see. */
function Grounds({ drawing }) {
  const { taken, neighbors } = drawing;
  const own = taken.chosen && taken.settings.k !== 0 ? taken.neighbors : null;
  const shown = own ?? (neighbors ?? (taken.settings.k === 0 ? [] : taken.neighbors)).filter((one) => one.id);
  return html`<div class="grounds" aria-hidden="true">
    ${shown.slice(0, 4).map((one) =>
      one.kind === "own" ? html`<${BlobImage} blob=${one.image} />` : html`<${PairImage} key=${one.id} id=${one.id} />`,
    )}
  </div>`;
}

function Progress({ drawing }) {
  const { sizes } = useStore(model);
  const { status, progress, position, connection } = drawing;
  if (status !== "queued" && status !== "running") return null;
  const stages = sizes.filter((size) => !drawing.size || size <= drawing.size);
  const done = progress ? (progress.stage + progress.step / progress.steps) / Math.max(1, stages.length) : 0;
  return html`<div class="progress">
    <progress max="1" value=${status === "queued" ? undefined : done} aria-label="Progress"></progress>
    <span class="hint">${connection === "broken" ? "Connection lost. Going on as soon as it is back." : step(drawing, stages.length)}</span>
  </div>`;
}

function step({ status, progress, position }, stages) {
  if (status === "queued") return position ? `Place ${position} in the queue` : "In the queue";
  if (!progress) return "Looking up neighbors";
  return `Stage ${progress.stage + 1} of ${stages}, ${progress.size} px: step ${progress.step} of ${progress.steps}`;
}
