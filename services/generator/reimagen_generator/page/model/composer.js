/** What is to be drawn: the prompt, its neighbors and the settings. */
import { keepDraft, readDraft } from "../data/preferences.js";
import { createStore } from "../lib/store.js";

/**
 * The object of a neighbor alone, once it is cut out, or why it cannot be.
 * @typedef {{image: Blob | null, warning: string}} CutOut
 * @typedef {{key: string, kind: "pair", id: string, caption: string, source: string, license: string, weight: number,
 *   cutOut?: CutOut | null, explanation?: any, score?: number}} PairNeighbor
 * @typedef {{key: string, kind: "own", image: Blob, caption: string, weight: number, cutOut?: CutOut | null}} OwnNeighbor
 * @typedef {PairNeighbor | OwnNeighbor} Neighbor
 * @typedef {{size: number, steps?: number, sampler?: string, guidance?: Record<string, string | number>}} StageChange
 * @typedef {{size: number | null, k: number | null, quality: string, steps: number | null, sampler: string | null,
 *   stages: StageChange[] | null, strategy: string | null, seed: number | null, eta: number | null, textWeight: number | null, neighborWeight: number | null, perEntity: boolean,
 *   negativePrompt: string}} Settings
 * @typedef {{status: "idle" | "searching" | "found" | "nothing" | "down" | "failed", message: string,
 *   nothing: any, nearest: any[], refused: RefusedPair[]}} Found
 * @typedef {{id: string, caption: string, reason: string}} RefusedPair
 */

/** Settings that leave everything to the service. @type {Settings} */
export const DEFAULTS = {
  size: null,
  k: null,
  quality: "auto",
  steps: null,
  sampler: null,
  stages: null,
  strategy: null,
  seed: null,
  eta: null,
  textWeight: null,
  neighborWeight: null,
  perEntity: false,
  negativePrompt: "",
};

/** @type {Found} */
export const NOT_SEARCHED = { status: "idle", message: "", nothing: null, nearest: [], refused: [] };

const draft = readDraft();

export const composer = createStore({
  prompt: String(draft?.prompt ?? ""),
  settings: { ...DEFAULTS, ...draft?.settings },
  /** @type {Neighbor[]} */
  neighbors: [],
  /** Whether the visitor chose the neighbors, so that a search does not replace them. */
  chosen: false,
  found: NOT_SEARCHED,
  /** @type {{field: string, message: string} | null} */
  problem: null,
});

composer.subscribe(() => {
  const { prompt, settings } = composer.get();
  keepDraft({ prompt, settings });
});

/** @param {Partial<Settings>} change */
export const changeSettings = (change) =>
  composer.set(({ settings }) => ({ settings: { ...settings, ...change }, problem: null }));

/** Return what a drawing needs of the composer, to restore it later. */
export function snapshot() {
  const { prompt, settings, neighbors, chosen, found } = composer.get();
  return { prompt, settings, neighbors, chosen, refused: chosen ? [] : found.refused };
}

/** Use the prompt, neighbors and settings of a drawing. */
export const restore = ({ prompt, settings, neighbors, chosen }) =>
  composer.set({ prompt, neighbors, chosen, settings: { ...DEFAULTS, ...settings }, found: NOT_SEARCHED, problem: null });
