/** The knowledge base: search, browse, add, remove. */
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { plural } from "../lib/format.js";
import { announce, notify, notifyError } from "../lib/notices.js";
import { searchSoon, usePair } from "../model/neighbors.js";
import { deletePair, listPairs, search } from "../service/api.js";
import { AddPairDialog } from "./addPair.js";
import { Why } from "./neighborCard.js";
import { Dialog, Icon, PairImage, Source } from "./ui.js";

const PAGE = 24;
const FOUND = 16;
const PAUSE = 250;
const EMPTY = { pairs: /** @type {any[]} */ ([]), more: false, total: null, nothing: null, problem: "", busy: true };

export function Knowledge() {
  const [query, setQuery] = useState("");
  const [state, setState] = useState(EMPTY);
  const [isAdding, setAdding] = useState(false);
  const [removed, setRemoved] = useState(/** @type {any} */ (null));
  const latest = useRef(0);

  /** Show the result of a request, unless a later one was made. */
  const load = async (request) => {
    const number = ++latest.current;
    setState((before) => ({ ...before, busy: true, problem: "" }));
    try {
      const result = await request();
      if (number === latest.current) setState({ ...EMPTY, busy: false, ...result });
    } catch (error) {
      if (number === latest.current) setState({ ...EMPTY, busy: false, problem: error.message });
    }
  };
  const refresh = (text = query) => load(() => (text.trim() ? find(text) : browse([])));
  useEffect(() => {
    const timer = setTimeout(refresh, query ? PAUSE : 0);
    return () => clearTimeout(timer);
  }, [query]);

  const remove = async () => {
    try {
      const { uses } = await deletePair(removed.id);
      const kept = uses?.images ? ` Kept images that were drawn from it: ${uses.images}.` : "";
      notify(`“${removed.caption}” was removed. No search finds it any more.${kept}`);
      setState((before) => ({
        ...before,
        pairs: before.pairs.filter((one) => one.id !== removed.id),
        total: before.total && before.total - 1,
      }));
      searchSoon(0);
    } catch (error) {
      notifyError(error);
    }
    setRemoved(null);
  };

  const { pairs, more, total, nothing, problem, busy } = state;
  return html`<div class="knowledge">
    <div class="knowledge-head">
      <div>
        <h1>Knowledge base</h1>
        <p class="hint" role="status">${busy ? "Reading…" : count(query, pairs, total)}</p>
      </div>
      <input type="search" class="large" value=${query} maxlength="1000" placeholder="Search: a red fox" aria-label="Search the knowledge base"
        onInput=${(event) => setQuery(event.target.value)} />
      <button type="button" class="primary" onClick=${() => setAdding(true)}><${Icon} name="add" />Add an image</button>
    </div>
    ${problem && html`<div class="empty" role="alert"><p>${problem}</p>
      <button type="button" class="quiet" onClick=${() => refresh()}>Try again</button></div>`}
    ${!problem && !busy && pairs.length === 0 && html`<${Nothing} query=${query} nothing=${nothing} onAdd=${() => setAdding(true)} />`}
    ${nothing && pairs.length > 0 && html`<p class="empty"><strong>No image is relevant.</strong> ${nothing.reason}. These are the nearest:</p>`}
    <ul class="pairs">
      ${pairs.map((pair) => html`<${Pair} key=${pair.id} pair=${pair} onRemove=${() => setRemoved(pair)} />`)}
    </ul>
    ${more && html`<div class="row center"><button type="button" class="quiet" disabled=${busy}
      onClick=${() => load(() => browse(pairs))}>Show more</button></div>`}
    ${isAdding && html`<${AddPairDialog} onClose=${() => setAdding(false)} onAdded=${() => refresh()} />`}
    ${removed &&
    html`<${Dialog} title="Remove this image?" onClose=${() => setRemoved(null)}>
      <p>“${removed.caption}” is removed from the knowledge base for everyone who uses this service.</p>
      <div class="row end"><button type="button" class="danger" onClick=${remove}>Remove</button></div>
    <//>`}
  </div>`;
}

function Pair({ pair, onRemove }) {
  const use = () => {
    usePair(pair);
    location.hash = "#draw";
  };
  return html`<li class="pair card">
    <${PairImage} id=${pair.id} alt=${pair.caption} />
    <div class="pair-text">
      <strong>${pair.caption}</strong>
      <span class="hint"><${Source} source=${pair.source} /></span>
      <span class="hint">${pair.license || "unknown license"} · ${pair.width} × ${pair.height}</span>
      <${Why} explanation=${pair.explanation} score=${pair.score} />
      <div class="row">
        <button type="button" class="text-button" aria-label=${`Draw from ${pair.caption}`} onClick=${use}>Draw from it</button>
        <button type="button" class="text-button" aria-label=${`Remove ${pair.caption}`} onClick=${onRemove}>Remove</button>
      </div>
    </div>
  </li>`;
}

function Nothing({ query, nothing, onAdd }) {
  return html`<div class="empty">
    <p>${query.trim() ? html`<strong>Nothing found.</strong> ${nothing?.reason ?? ""}` : html`<strong>The knowledge base is empty.</strong>`}</p>
    <p class="hint">${query.trim() ? "Search for other words, or add an image of it." : "Add images, so that prompts can name them."}</p>
    <button type="button" class="quiet" onClick=${onAdd}>Add an image</button>
  </div>`;
}

async function browse(before) {
  const { data, has_more: more, total } = await listPairs({ limit: PAGE, after: before.at(-1)?.id });
  return { pairs: [...before, ...data], more, total };
}

async function find(query) {
  const answer = await search({ query, k: FOUND, explain: true });
  const nothing = answer.nothing_found ?? null;
  const nearest = nothing ? (await search({ query, k: 4, explain: true, relevance: "any" })).neighbors : [];
  announce(nothing ? "Nothing relevant found." : `${plural(answer.neighbors.length, "image")} found.`);
  return { pairs: nothing ? nearest : answer.neighbors, nothing };
}

function count(query, pairs, total) {
  if (query.trim()) return pairs.length === FOUND ? `the best ${FOUND}` : `${plural(pairs.length, "image")} found`;
  return total === null ? "" : plural(total, "image");
}
