/** The queue and the history. */
import { html, useState } from "../vendor/htm-preact.js";
import { ago, plural } from "../lib/format.js";
import { notifyError } from "../lib/notices.js";
import { useStore } from "../lib/store.js";
import { cancelDrawing, drawings, forgetAll, forgetGroup, groupsOf, isFinished } from "../model/drawings.js";
import { BlobImage, Dialog, IconButton } from "./ui.js";

const show = (group) => drawings.set({ shown: group });

export function Queue() {
  const waiting = useStore(drawings).all.filter((one) => !isFinished(one)).reverse();
  if (waiting.length === 0) return null;
  const cancelAll = () => Promise.all(waiting.map((one) => cancelDrawing(one.id))).catch(notifyError);
  return html`<section class="queue card" aria-labelledby="queue-title">
    <div class="section-head">
      <h2 id="queue-title">Queue</h2><span class="hint">${plural(waiting.length, "image")}</span>
      ${waiting.length > 1 && html`<button type="button" class="text-button" onClick=${cancelAll}>Cancel all</button>`}
    </div>
    <ol>
      ${waiting.map(
        (one) => html`<li key=${one.id}>
          <span class="place">${one.status === "running" ? "now" : (one.position ?? "…")}</span>
          <button type="button" class="text-button title" onClick=${() => show(one.group)}>
            ${one.taken.prompt}${one.label && ` · ${one.label}`}
          </button>
          <${IconButton} icon="close" label=${`Cancel ${one.taken.prompt} ${one.label}`}
            onClick=${() => cancelDrawing(one.id).catch(notifyError)} />
        </li>`,
      )}
    </ol>
  </section>`;
}

export function History() {
  const { all, shown, loaded } = useStore(drawings);
  const [isAsking, setAsking] = useState(false);
  const groups = groupsOf(all).filter((group) => group.every(isFinished));
  if (!loaded || groups.length === 0) return null;
  return html`<section class="history" aria-labelledby="history-title">
    <div class="section-head">
      <h2 id="history-title">History</h2><span class="hint">kept in this browser</span>
      <button type="button" class="text-button" onClick=${() => setAsking(true)}>Clear</button>
    </div>
    <ul>
      ${groups.map((group) => html`<${Entry} key=${group[0].group} group=${group} isShown=${group[0].group === shown} />`)}
    </ul>
    ${isAsking &&
    html`<${Dialog} title="Clear the history?" onClose=${() => setAsking(false)}>
      <p>All images are removed from this browser. Download those that you want to keep.</p>
      <div class="row end">
        <button type="button" class="danger" onClick=${() => {
          forgetAll();
          setAsking(false);
        }}>Clear the history</button>
      </div>
    <//>`}
  </section>`;
}

function Entry({ group, isShown }) {
  const [first] = group;
  const images = group.filter((one) => one.image).slice(0, 4);
  const name = [first.taken.prompt, first.title].filter(Boolean).join(", ");
  return html`<li class="entry">
    <button type="button" class="thumbs count-${Math.max(1, images.length)}" aria-current=${isShown ? "true" : undefined}
      aria-label=${`Show ${name}, ${ago(first.created)}`} title=${name} onClick=${() => show(first.group)}>
      ${images.map((one) => html`<${BlobImage} key=${one.id} blob=${one.image} />`)}
      ${images.length === 0 && html`<span class="hint">${first.status}</span>`}
    </button>
    <${IconButton} icon="close" label=${`Remove ${name} from the history`} onClick=${() => forgetGroup(first.group)} />
  </li>`;
}
