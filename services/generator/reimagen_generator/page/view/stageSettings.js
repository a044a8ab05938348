/** The settings of single stages, for those who want them. */
import { html, useState } from "../vendor/htm-preact.js";
import { useStore } from "../lib/store.js";
import { changeSettings, composer } from "../model/composer.js";
import { model } from "../model/model.js";
import { changeGuidance, changesOf, changeStage, inherited } from "../model/stages.js";

export const SAMPLERS = ["ddpm", "ddim", "dpm-solver++", "unipc"];
export const STRATEGIES = ["interleaved", "weighted", "joint"];

export function StageSettings() {
  const { settings } = useStore(composer);
  const { stages } = useStore(model);
  const [isOpen, setOpen] = useState(false);
  const changed = settings.stages ?? [];
  if (stages.length === 0 && changed.length === 0) return null;
  return html`<details class="stage-settings" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Single stages ${changed.length > 0 && html`<span class="badge">${changed.length} changed</span>`}</summary>
    ${isOpen && html`<${Stages} changed=${changed} />`}
  </details>`;
}

/** The contents of the fold-out, which are many fields: they are drawn when it is opened. */
function Stages({ changed }) {
  const { settings } = useStore(composer);
  const { stages, defaultSize } = useStore(model);
  const unknown = changed.filter(({ size }) => !stages.some((stage) => stage.size === size)).map(({ size }) => `${size} px`);
  return html`<p class="hint">The cascade draws a small image first, and enlarges it stage by stage. What you set here overrides
      the settings above.</p>
    ${stages.map(
      (stage) =>
        html`<${OneStage} key=${stage.size} stage=${stage} isDrawn=${stage.size <= (settings.size ?? defaultSize)} />`,
    )}
    ${unknown.length > 0 &&
    html`<p class="problem">This cascade has no stage of ${unknown.join(", ")}. Reset the stages to draw.</p>`}
    <button type="button" class="text-button" disabled=${changed.length === 0} onClick=${() => changeSettings({ stages: null })}>
      Reset the stages
    </button>`;
}

/** @param {{stage: import("../model/model.js").Stage, isDrawn: boolean}} props */
function OneStage({ stage, isDrawn }) {
  const { settings } = useStore(composer);
  const { size, sees_neighbors: seesNeighbors } = stage;
  const { steps, sampler, guidance = {} } = changesOf(settings, size);
  const usual = inherited(settings, stage);
  const strategy = guidance.strategy ?? usual.guidance.strategy;
  const weight = (name, label, most = 100, step = 0.5) => html`<${Field} label=${label} size=${size}>
    <input type="number" min="0" max=${most} step=${step} inputmode="decimal" value=${guidance[name] ?? ""}
      placeholder=${usual.guidance[name]}
      onChange=${(event) => changeGuidance(size, { [name]: numberOf(event.target) })} />
  <//>`;
  return html`<fieldset>
    <legend>${size} px${!isDrawn && html`<span class="hint"> · not drawn at this size</span>`}</legend>
    <${Field} label="Steps" size=${size}>
      <input type="number" min="1" max="1000" inputmode="numeric" value=${steps ?? ""}
        placeholder=${usual.steps ?? `quality ${settings.quality}`}
        onChange=${(event) => changeStage(size, { steps: numberOf(event.target) })} />
    <//>
    <${Field} label="Sampler" size=${size}>
      <${Choice} value=${sampler} usual=${usual.sampler} values=${SAMPLERS}
        onChoice=${(value) => changeStage(size, { sampler: value })} />
    <//>
    ${seesNeighbors &&
    html`<${Field} label="Guidance" size=${size}>
      <${Choice} value=${guidance.strategy} usual=${usual.guidance.strategy} values=${STRATEGIES}
        onChoice=${(value) => changeGuidance(size, { strategy: value })} />
    <//>`}
    ${weight("text_weight", "Weight of the text")}
    ${seesNeighbors && strategy !== "joint" && weight("neighbor_weight", "Weight of the neighbors")}
    ${seesNeighbors && strategy === "interleaved" && weight("interleave_ratio", "Text share, η", 1, 0.05)}
  </fieldset>`;
}

/** A label that also tells screen readers the stage. */
const Field = ({ label, size, children }) =>
  html`<label>${label}<span class="visually-hidden"> at ${size} pixels</span>${children}</label>`;

/** A choice among names. The first one leaves it to the settings of all stages. */
const Choice = ({ value, usual, values, onChoice }) =>
  html`<select value=${value ?? ""} onChange=${(event) => onChoice(event.target.value || null)}>
    <option value="">Default (${usual})</option>
    ${values.map((name) => html`<option value=${name}>${name}</option>`)}
  </select>`;

/** Return the number in a field within its limits, or null if it is empty. @param {HTMLInputElement} field */
function numberOf(field) {
  if (field.value === "") return null;
  return Math.min(Number(field.max), Math.max(Number(field.min), Number(field.value)));
}
