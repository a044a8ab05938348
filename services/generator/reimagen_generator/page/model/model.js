/** The loaded cascade, and whether the service answers. */
import { createStore } from "../lib/store.js";
import { readModel } from "../service/api.js";

/**
 * @typedef {{size: number, steps: number, sampler: string, sees_neighbors: boolean, guided: boolean,
 *   guidance: {strategy: string | null,
 *   text_weight: number, neighbor_weight: number | null, interleave_ratio: number | null}}} Stage
 */

const RETRY = 3_000;

export const model = createStore({
  /** @type {"reading" | "ready" | "down"} */
  status: "reading",
  name: "",
  /** @type {number[]} */
  sizes: [],
  defaultSize: 256,
  defaultK: 2,
  maximumK: 4,
  /** The stages of the cascade, as the service states them. @type {Stage[]} */
  stages: [],
  message: "",
});

/** Read the cascade, again and again while the service does not answer. */
export async function loadModel() {
  try {
    const found = await readModel();
    const sizes = found.sizes.map((size) => Number.parseInt(size, 10));
    model.set({
      status: "ready",
      name: found.id,
      sizes,
      defaultSize: sizes.includes(256) ? 256 : Math.max(...sizes),
      defaultK: found.default_k,
      maximumK: found.maximum_k,
      stages: found.stages,
      message: "",
    });
  } catch (error) {
    model.set({ status: "down", message: error.message });
    // The dialog that asks for a key reads the cascade again.
    if (error.status !== 401) setTimeout(loadModel, RETRY);
  }
}
