/** From the composer to a request for a job, and back from an image's provenance. */
import { toBase64 } from "../data/images.js";
import { DEFAULTS } from "./composer.js";

const PREVIEWS = 3;

/**
 * Return the body of a job.
 * @param {ReturnType<typeof import("./composer.js").snapshot>} taken
 * @throws {Error} An image cannot be read.
 */
export async function buildRequest({ prompt, settings, neighbors, chosen }) {
  const guidance = {
    strategy: settings.strategy,
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
    // The service refuses both: quality is a factor of the default steps.
    ...(settings.steps ? { steps: settings.steps } : settings.quality !== "auto" && { quality: settings.quality }),
    ...(settings.sampler && { sampler: settings.sampler }),
    ...(settings.stages && { stages: settings.stages }),
    ...(settings.negativePrompt && { negative_prompt: settings.negativePrompt }),
    ...(isGuided && { guidance }),
    ...(await grounding({ settings, neighbors, chosen })),
  };
}

async function grounding({ settings, neighbors, chosen }) {
  if (chosen && settings.k !== 0 && neighbors.length > 0)
    return { references: await Promise.all(neighbors.map(reference)) };
  const k = settings.k === 0 || chosen ? 0 : settings.k;
  return { retrieval: { k, ...(settings.perEntity && { per_entity: true }), explain: true } };
}

/** Return a neighbor as a reference of a request. @param {import("./composer.js").Neighbor} neighbor */
export async function reference({ weight, cutOut, ...neighbor }) {
  const used = { weight, ...(cutOut && { cut_out: true }) };
  if (neighbor.kind === "pair") return { pair_id: neighbor.id, ...used };
  return { image: await toBase64(neighbor.image), caption: neighbor.caption, ...used };
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
    sampler: request.sampler ?? null,
    stages: request.stages?.length ? request.stages : null,
    k: retrieval?.k ?? null,
    strategy: guidance?.strategy ?? null,
    perEntity: retrieval?.per_entity ?? false,
    eta: guidance?.interleave_ratio ?? null,
    textWeight: guidance?.text_weight ?? null,
    neighborWeight: guidance?.neighbor_weight ?? null,
    negativePrompt: request.negative_prompt ?? "",
  };
}
