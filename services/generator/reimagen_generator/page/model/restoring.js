/** Restore prompt, seed, neighbors and settings from an image that the service drew. */
import { readProvenance } from "../data/provenance.js";
import { cutOut, readPair, verify } from "../service/api.js";
import { restore } from "./composer.js";
import { drawings } from "./drawings.js";
import { pairNeighbor } from "./neighbors.js";
import { settingsOf } from "./request.js";

/**
 * Restore what an image was drawn with. Return a sentence about it, or null if the image is not one of ours.
 * @param {Blob} file
 * @returns {Promise<string | null>}
 */
export async function restoreFrom(file) {
  const found = (await fromService(file)) ?? (await fromFile(file));
  if (!found) return null;
  const same = drawings
    .get()
    .all.find(({ seed, taken }) => seed === found.settings.seed && taken.prompt === found.prompt && hasNeighbors(taken));
  if (same && found.neighbors.some((one) => !one.id)) {
    // The file has no copies of the visitor's own images, but the history has.
    restore({ ...same.taken, settings: { ...found.settings, k: same.taken.settings.k } });
    return `${found.origin} Prompt, seed, neighbors and settings are restored.`;
  }
  const pairs = await Promise.all(found.neighbors.filter((one) => one.id).map(stillThere));
  const neighbors = pairs.filter((one) => one !== null);
  const isGrounded = found.neighbors.length > 0;
  restore({
    prompt: found.prompt,
    settings: { ...found.settings, k: isGrounded ? null : 0 },
    neighbors,
    chosen: isGrounded,
  });
  const lost = found.neighbors.length - neighbors.length;
  const rest =
    lost === 0
      ? "Prompt, seed, neighbors and settings are restored."
      : `Prompt, seed and settings are restored. ${lost} of ${found.neighbors.length} neighbors cannot be: ` +
        "they are no longer in the knowledge base, or were someone's own images.";
  return `${found.origin} ${rest}`;
}

const hasNeighbors = ({ chosen, settings }) => chosen && settings.k !== 0;

async function fromService(file) {
  try {
    const { generation, signature, tampered } = await verify(file);
    if (!generation) return null;
    const signed = signature.status === "trusted" ? ` Its signature is valid${signature.signer ? ` (${signature.signer})` : ""}.` : "";
    const changed = tampered ? " It was changed after it was drawn." : "";
    return {
      prompt: generation.prompt,
      settings: settingsOf(generation.request),
      neighbors: generation.neighbors,
      origin: `Drawn by ${generation.model}.${signed}${changed}`,
    };
  } catch {
    return null; // The file itself may still tell.
  }
}

async function fromFile(file) {
  const provenance = await readProvenance(file);
  if (!provenance) return null;
  const { prompt, seed, size, guidance, quality, settings, neighbors, cascade } = provenance;
  return {
    prompt,
    settings: settingsOf({ ...settings, size: String(size), seed, guidance, quality }),
    neighbors,
    origin: `Drawn by ${cascade}.`,
  };
}

/** Return the pair of a neighbor as it is now, or null if the knowledge base no longer has it. */
async function stillThere({ id, weight, cut_out: isCutOut }) {
  try {
    const neighbor = pairNeighbor({ ...(await readPair(id)), weight });
    return isCutOut ? { ...neighbor, cutOut: await cutOut({ pair_id: id }) } : neighbor;
  } catch {
    return null;
  }
}
