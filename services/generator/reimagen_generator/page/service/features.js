/** What the service can do, from its OpenAPI document: services of earlier versions have fewer fields. */
import { createStore } from "../lib/store.js";
import { sendForJson } from "./http.js";

export const features = createStore({ weights: false, pairIds: false, steps: false, negativePrompt: false, verify: false });

/** @type {Promise<void> | null} */
let reading = null;

/** Read the features once. Unknown ones stay off. */
export function readFeatures() {
  reading ??= sendForJson("openapi.json").then(
    ({ components, paths }) => {
      const fieldsOf = (name) => components.schemas[name]?.properties ?? {};
      features.set({
        weights: "weight" in fieldsOf("Reference"),
        pairIds: "pair_id" in fieldsOf("Reference"),
        steps: "steps" in fieldsOf("JobRequest"),
        negativePrompt: "negative_prompt" in fieldsOf("JobRequest"),
        verify: "/v1/verify" in paths,
      });
    },
    () => {
      reading = null;
    },
  );
  return reading;
}
