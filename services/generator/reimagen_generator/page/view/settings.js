/** The settings of drawing. */
import { html, useState } from "../vendor/htm-preact.js";
import { useStore } from "../lib/store.js";
import { changeSettings, composer, DEFAULTS } from "../model/composer.js";
import { model } from "../model/model.js";
import { searchSoon } from "../model/neighbors.js";
import { SAMPLERS, StageSettings, STRATEGIES } from "./stageSettings.js";
import { IconButton } from "./ui.js";

const RETRIEVAL = ["k", "perEntity"];

function change(name, value) {
  changeSettings({ [name]: value });
  if (RETRIEVAL.includes(name)) searchSoon(0);
}

/** Joint guidance has the weight of the text alone; the service refuses the others. */
const chooseStrategy = (strategy) =>
  changeSettings(strategy === "joint" ? { strategy, eta: null, neighborWeight: null } : { strategy });

export function Settings() {
  const { settings } = useStore(composer);
  const [isOpen, setOpen] = useState(false);
  const changed = Object.keys(DEFAULTS).filter((name) => settings[name] !== DEFAULTS[name]).length;
  return html`<details class="settings" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Settings ${changed > 0 && html`<span class="badge">${changed} changed</span>`}</summary>
    ${isOpen && html`<${Fields} isChanged=${changed > 0} />`}
  </details>`;
}

/** The contents of the fold-out, which are most of the page: they are drawn when it is opened. */
function Fields({ isChanged }) {
  const { settings } = useStore(composer);
  const { sizes, stages, defaultSize, defaultK, maximumK } = useStore(model);
  const usual = stages.find((stage) => stage.guided)?.guidance;
  const isJoint = settings.strategy === "joint";
  const reset = () => {
    changeSettings(DEFAULTS);
    searchSoon(0);
  };
  return html`<div class="settings-grid">
      <label>Size<select value=${settings.size ?? ""} onChange=${(event) => change("size", Number(event.target.value) || null)}>
        <option value="">Default (${defaultSize} px)</option>
        ${sizes.map((size) => html`<option value=${size}>${size} × ${size} px</option>`)}
      </select></label>
      <label>Steps<input type="number" min="1" max="1000" inputmode="numeric" value=${settings.steps ?? ""}
        placeholder=${settings.quality === "auto" ? "default" : `quality ${settings.quality}`}
        onChange=${(event) => change("steps", Number(event.target.value) || null)} /></label>
      <label>Sampler<select value=${settings.sampler ?? ""} onChange=${(event) => change("sampler", event.target.value || null)}>
        <option value="">Default</option>
        ${SAMPLERS.map((name) => html`<option value=${name}>${name}</option>`)}
      </select></label>
      <label>Guidance<select value=${settings.strategy ?? ""} onChange=${(event) => chooseStrategy(event.target.value || null)}>
        <option value="">Default</option>
        ${STRATEGIES.map((name) => html`<option value=${name}>${name}</option>`)}
      </select></label>
      <label>Seed
        <span class="with-button">
          <input type="number" min="0" max="4294967295" inputmode="numeric" placeholder="random" value=${settings.seed ?? ""}
            onInput=${(event) => change("seed", event.target.value === "" ? null : Number(event.target.value))} />
          <${IconButton} icon="refresh" label="Random seed" disabled=${settings.seed === null}
            onClick=${() => change("seed", null)} />
        </span></label>
      <label class="check"><input type="checkbox" checked=${settings.perEntity}
        onChange=${(event) => change("perEntity", event.target.checked)} /> Neighbors for each thing in the prompt</label>
      <${Slider} name="k" label="Neighbors, k" value=${settings.k} fallback=${defaultK} max=${maximumK} step=${1} />
      ${!isJoint && html`<${Slider} name="eta" label="Text share, η" value=${settings.eta} fallback=${usual?.interleave_ratio ?? 0.5} max=${1} step=${0.05}
        hint="Share of the steps that follow the text instead of the neighbors." />`}
      <${Slider} name="textWeight" label="Weight of the text" value=${settings.textWeight}
        fallback=${usual?.text_weight ?? 2} max=${10} step=${0.5} />
      ${!isJoint && html`<${Slider} name="neighborWeight" label="Weight of the neighbors" value=${settings.neighborWeight}
        fallback=${usual?.neighbor_weight ?? 2} max=${10} step=${0.5} />`}
      <label class="wide">Negative prompt<input maxlength="1000" value=${settings.negativePrompt}
        placeholder="what must not appear" onInput=${(event) => change("negativePrompt", event.target.value)} /></label>
    </div>
    <${StageSettings} />
    <button type="button" class="text-button" disabled=${!isChanged} onClick=${reset}>Reset all settings</button>`;
}

/** A slider whose value may be left to the service. `fallback` is where it stands meanwhile. */
function Slider({ name, label, value, fallback, max, step, hint = "" }) {
  const isDefault = value === null;
  return html`<div class="slider ${isDefault ? "default" : ""}">
    <label for=${`setting-${name}`}>${label}</label>
    <output>${isDefault ? "default" : value}</output>
    <input id=${`setting-${name}`} type="range" min="0" max=${max} step=${step} value=${value ?? fallback}
      aria-valuetext=${isDefault ? "default" : String(value)} aria-describedby=${hint ? `hint-${name}` : undefined}
      onInput=${(event) => change(name, Number(event.target.value))} />
    <${IconButton} icon="refresh" label=${`${label}: default`} disabled=${isDefault} onClick=${() => change(name, null)} />
    ${hint && html`<span class="hint" id=${`hint-${name}`}>${hint}</span>`}
  </div>`;
}
