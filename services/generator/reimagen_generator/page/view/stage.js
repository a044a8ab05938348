/** The drawings that are shown large, and what they are grounded on. */
import { html } from "../vendor/htm-preact.js";
import { download } from "../data/images.js";
import { sentence, slug } from "../lib/format.js";
import { notify, notifyError } from "../lib/notices.js";
import { useStore } from "../lib/store.js";
import { restore } from "../model/composer.js";
import { cancelDrawing, draw, drawings, groupsOf, isFinished } from "../model/drawings.js";
import { examples } from "../model/examples.js";
import { pairNeighbor } from "../model/neighbors.js";
import { Canvas } from "./canvas.js";
import { BlobImage, Icon, PairImage, Refused, Source } from "./ui.js";

export function Stage() {
  const { all, shown, loaded } = useStore(drawings);
  const group = groupsOf(all).find((one) => one[0].group === shown);
  return html`<section id="stage" class="stage" aria-label="Image">
    ${group ? html`<${Group} group=${group} />` : loaded && html`<${Nothing} />`}
  </section>`;
}

/** @param {{group: import("../model/drawings.js").Drawing[]}} props */
function Group({ group }) {
  const [first] = group;
  const isOne = group.length === 1;
  return html`<div class="group">
    ${!isOne && html`<h2 class="group-title">${first.title}</h2>`}
    <div class=${isOne ? "single" : `strip count-${group.length}`}>
      ${group.map(
        (drawing) => html`<figure key=${drawing.id}>
          <${Canvas} drawing=${drawing} large=${isOne} />
          <figcaption>
            ${isOne ? html`<h2>${drawing.taken.prompt}</h2>` : html`<span class="label">${drawing.label}</span>`}
            <${Actions} drawing=${drawing} isOne=${isOne} />
          </figcaption>
        </figure>`,
      )}
    </div>
    ${!isOne && html`<p class="group-prompt">${first.taken.prompt}</p>`}
    <${Grounding} group=${group} />
  </div>`;
}

function Actions({ drawing, isOne }) {
  const { image, taken, seed, label } = drawing;
  const name = `${slug(taken.prompt)}-${label ? `${slug(label)}-` : ""}${seed}.png`;
  const cancel = () => cancelDrawing(drawing.id).catch(notifyError);
  const reuse = () => {
    restore(exactly(drawing));
    notify("Prompt, seed, neighbors and settings are in the form.");
  };
  if (!isFinished(drawing)) return html`<button type="button" class="quiet" onClick=${cancel}>Cancel</button>`;
  return html`<div class="row">
    ${isOne && html`<span class="meta">seed ${seed}</span>`}
    ${image &&
    html`<button type="button" class="quiet" aria-label=${`Download ${label}`} onClick=${() => download(image, name)}
      title="The file contains its prompt, seed and neighbors">
      <${Icon} name="download" />Download
    </button>`}
    <button type="button" class="quiet" aria-label=${`Use the settings of this image ${label}`} onClick=${reuse}>
      <${Icon} name="settings" />Use settings
    </button>
    ${isOne &&
    html`<button type="button" class="quiet" onClick=${() => draw("", [{ label: "", settings: { seed: null } }])}>
      <${Icon} name="refresh" />Another
    </button>`}
  </div>`;
}

/** Return what draws an image again: the neighbors that it had, even if a search would find others now. */
function exactly({ taken, neighbors, seed }) {
  const settings = { ...taken.settings, seed };
  const found = neighbors?.filter((one) => one.id) ?? [];
  if (taken.chosen || settings.k === 0 || found.length === 0) return { ...taken, settings };
  return { ...taken, settings, neighbors: found.map(pairNeighbor), chosen: true };
}

/** What the images are grounded on, with source and license. */
function Grounding({ group }) {
  const grounded = group.find((one) => one.neighbors?.length > 0);
  if (!grounded) {
    const bare = group.find((one) => one.nothing);
    return bare
      ? html`<div class="grounding"><p class="hint">No neighbors: ${bare.nothing.reason}.</p><${Refused} pairs=${refusedOf(bare)} /></div>`
      : null;
  }
  const own = grounded.taken.neighbors.filter((one) => one.kind === "own");
  return html`<section class="grounding" aria-labelledby="grounding-title">
    <h3 id="grounding-title">Grounded on</h3>
    <ul>
      ${grounded.neighbors.map((neighbor, index) => {
        const chosen = grounded.taken.chosen ? grounded.taken.neighbors[index] : null;
        const id = neighbor.id ?? chosen?.id;
        const cut = neighbor.cut_out && chosen?.cutOut?.image;
        return html`<li key=${id ?? index}>
          ${cut
            ? html`<${BlobImage} blob=${cut} />`
            : id
              ? html`<${PairImage} id=${id} />`
              : html`<${BlobImage} blob=${(chosen ?? own[index])?.image} />`}
          <div><strong>${neighbor.caption}</strong>
            <span class="hint">${id
              ? html`<${Source} source=${neighbor.source ?? chosen?.source} /> · ${(neighbor.license ?? chosen?.license) || "unknown license"}`
              : "your image"}${neighbor.cut_out && ", cut out"}</span>
            ${neighbor.warning && html`<span class="hint">${sentence(neighbor.warning)}</span>`}</div>
        </li>`;
      })}
    </ul>
    <${Refused} pairs=${refusedOf(grounded)} />
  </section>`;
}

/** Return the pairs that the operator's policy left out of a drawing, with the captions that the search before it found. */
function refusedOf({ refused = [], taken }) {
  const found = [...(taken.refused ?? []), ...taken.neighbors.filter((one) => one.kind === "pair")];
  return refused.map((pair) => ({ ...pair, caption: found.find(({ id }) => id === pair.id)?.caption ?? pair.id }));
}

/** What the page can do, before the first image. */
function Nothing() {
  const { pairs } = useStore(examples);
  return html`<div class="welcome">
    <div class="mosaic" aria-hidden="true">
      ${pairs.slice(0, 12).map((pair) => html`<${PairImage} key=${pair.id} id=${pair.id} />`)}
    </div>
    <h2>Say what to draw</h2>
    <p>The service looks up images that your prompt names, shows them to you, and draws from them. Change them as you like
      before you draw.</p>
    <p class="hint">Drop an image that was drawn here to get its prompt, seed, neighbors and settings back.</p>
  </div>`;
}
