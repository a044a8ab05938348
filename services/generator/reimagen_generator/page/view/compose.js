/** The form: prompt, neighbors, settings, and what to draw. */
import { html, useEffect, useLayoutEffect, useRef } from "../vendor/htm-preact.js";
import { useStore } from "../lib/store.js";
import { composer } from "../model/composer.js";
import { draw, drawings } from "../model/drawings.js";
import { examples, loadExamples } from "../model/examples.js";
import { model } from "../model/model.js";
import { searchSoon } from "../model/neighbors.js";
import { Neighbors } from "./neighbors.js";
import { Settings } from "./settings.js";
import { IconButton } from "./ui.js";

const RATIOS = [0, 0.25, 0.5, 0.75, 1];
const SEEDS = 2 ** 32;
const GROWS_BY_ITSELF = CSS.supports("field-sizing", "content");

function write(prompt) {
  composer.set({ prompt, problem: null });
  searchSoon();
}

export function Compose() {
  const { prompt, problem, neighbors, settings, chosen, found } = useStore(composer);
  const { sending } = useStore(drawings);
  const { status, defaultK, maximumK } = useStore(model);
  const { prompts, failed } = useStore(examples);
  const text = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    // Measuring the text makes the browser lay out the page at once, which CSS avoids where it can.
    if (!text.current || GROWS_BY_ITSELF) return;
    text.current.style.height = "auto";
    text.current.style.height = `${text.current.scrollHeight}px`;
  }, [prompt]);
  useEffect(() => {
    if (problem?.field === "prompt") text.current?.focus();
  }, [problem]);

  const isUnreachable = !chosen && ["down", "failed"].includes(found.status);
  const isNothingLeft = found.status === "nothing" || found.refused.length > 0;
  const isBare = neighbors.length === 0 && (chosen || isUnreachable || isNothingLeft);
  const submit = (event) => {
    event.preventDefault();
    show();
    // Without this, the service would look for neighbors too, and fail.
    draw("", [{ label: "", settings: isUnreachable ? { k: 0 } : {} }]);
  };
  const keyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  };
  const canRetrieve = maximumK > 0;
  return html`<form class="compose card" onSubmit=${submit} onKeyDown=${keyDown} aria-label="Draw">
    <div class="prompt">
      <label for="prompt">What should it show?</label>
      <textarea id="prompt" ref=${text} rows="1" maxlength="1000" value=${prompt} aria-describedby="prompt-problem"
        aria-invalid=${problem?.field === "prompt"} placeholder=${prompts[0] ?? "a red fox in the snow"}
        onInput=${(event) => write(event.target.value)}></textarea>
    </div>
    ${!prompt.trim() &&
    !failed &&
    canRetrieve &&
    html`<div class="examples" role="group" aria-label="Examples from the knowledge base">
      ${prompts.map(
        (example) => html`<button key=${example} type="button" class="chip" onClick=${() => write(example)}>${example}</button>`,
      )}
      <${IconButton} icon="refresh" label="Other examples" onClick=${loadExamples} />
    </div>`}
    ${canRetrieve && html`<${Neighbors} />`}
    <${Settings} />
    <p id="prompt-problem" class=${problem ? "problem" : "visually-hidden"} role="alert">${problem?.message ?? ""}</p>
    <div class="actions">
      <button class="primary large" disabled=${sending || status !== "ready"}>
        ${sending ? "Sending…" : isBare && canRetrieve ? "Draw without neighbors" : "Draw"}
      </button>
      ${canRetrieve &&
      html`<div class="compare" role="group" aria-label="Compare">
        <span class="hint">Compare</span>
        <button type="button" class="chip" disabled=${sending} onClick=${() => compare("With and without neighbors", withAndWithout(settings, defaultK))}>
          with / without
        </button>
        <button type="button" class="chip" disabled=${sending} onClick=${() => compare("From neighbors to text", ratios(settings))}>η strip</button>
        <button type="button" class="chip" disabled=${sending} onClick=${() => compare("Four seeds", fourSeeds(settings))}>four seeds</button>
      </div>`}
    </div>
  </form>`;
}

function compare(title, variants) {
  show();
  draw(title, variants);
}

/** On a phone, the image is below the form. */
function show() {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (matchMedia("(max-width: 60rem)").matches)
    document.getElementById("stage")?.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}

function withAndWithout({ k }, defaultK) {
  const own = k === 0 ? Math.max(1, defaultK) : k;
  return [
    { label: "with neighbors", settings: { k: own } },
    { label: "without neighbors", settings: { k: 0 } },
  ];
}

/** Only interleaved guidance has η. */
const ratios = ({ strategy }) =>
  RATIOS.map((eta) => ({ label: `η = ${eta}`, settings: { eta, ...(strategy && { strategy: "interleaved" }) } }));

function fourSeeds({ seed }) {
  const first = seed ?? Math.floor(Math.random() * SEEDS);
  return [0, 1, 2, 3].map((number) => {
    const own = (first + number) % SEEDS;
    return { label: `seed ${own}`, settings: { seed: own } };
  });
}
