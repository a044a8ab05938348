/** From the composer to a request for a job, and back from an image's provenance. */
import { toBase64 } from "../data/images.js";
import { readPairImage } from "../service/api.js";
import { DEFAULTS } from "./composer.js";

export const PREVIEWS = 3;

/**
 * Return the body of a job.
 * @param {ReturnType<typeof import("./composer.js").snapshot>} taken
 * @param {{weights: boolean, pairIds: boolean, steps: boolean, negativePrompt: boolean}} features
 * @throws {Error} An image cannot be read.
 */
export async function buildRequest({ prompt, settings, neighbors, chosen }, features) {
  const guidance = {
    text_weight: settings.textWeight,
    neighbor_weight: settings.neighborWeight,
    interleave_ratio: settings.eta,
  };
  const isGuided = Object.values(guidance).some((value) => value !== null);
  return {
    prompt,
    seed: settings.seed,
    partial_images: PREVIEWS,
    ...(settings.size && { size: `${settings.size}x${settings.size}` }),
    ...(settings.quality !== "auto" && { quality: settings.quality }),
    ...(features.steps && settings.steps && { steps: settings.steps }),
    ...(features.negativePrompt && settings.negativePrompt && { negative_prompt: settings.negativePrompt }),
    ...(isGuided && { guidance }),
    ...(await grounding({ settings, neighbors, chosen }, features)),
  };
}

async function grounding({ settings, neighbors, chosen }, features) {
  if (chosen && settings.k !== 0 && neighbors.length > 0)
    return { references: await Promise.all(neighbors.map((one) => reference(one, features))) };
  const k = settings.k === 0 || chosen ? 0 : settings.k;
  return { retrieval: { k, ...(settings.perEntity && { per_entity: true }), explain: true } };
}

async function reference(neighbor, features) {
  const weight = features.weights ? { weight: neighbor.weight } : {};
  if (neighbor.kind === "own") return { image: await toBase64(neighbor.image), caption: neighbor.caption, ...weight };
  if (features.pairIds) return { pair_id: neighbor.id, ...weight };
  return { image: await toBase64(await readPairImage(neighbor.id)), caption: neighbor.caption, ...weight };
}

/** Return the settings in a request that the service states for an image. @param {any} request */
export function settingsOf(request) {
  const { guidance = {}, retrieval = {} } = request;
  return {
    ...DEFAULTS,
    size: Number.parseInt(request.size, 10) || null,
    seed: request.seed ?? null,
    quality: request.quality ?? "auto",
    steps: request.steps ?? null,
    k: retrieval?.k ?? null,
    perEntity: retrieval?.per_entity ?? false,
    eta: guidance?.interleave_ratio ?? null,
    textWeight: guidance?.text_weight ?? null,
    neighborWeight: guidance?.neighbor_weight ?? null,
    negativePrompt: request.negative_prompt ?? "",
  };
}
