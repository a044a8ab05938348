/** The neighbors of the prompt: found by a search, or chosen by the visitor. */
import { prepareImage } from "../data/images.js";
import { announce, notifyError } from "../lib/notices.js";
import { plural } from "../lib/format.js";
import { addPair, cutOut, search } from "../service/api.js";
import { composer, NOT_SEARCHED } from "./composer.js";
import { model } from "./model.js";
import { reference } from "./request.js";

const PAUSE = 250;
const RETRY = 4_000;
const NEAREST = 4;

let timer = 0;
/** @type {AbortController | null} */
let running = null;

/** Return a neighbor from a pair of the knowledge base. @returns {import("./composer.js").PairNeighbor} */
export const pairNeighbor = ({ id, caption, source = "", license = "", explanation, score, weight = 1 }) => ({
  key: `pair:${id}`,
  kind: "pair",
  id,
  caption,
  source,
  license,
  explanation,
  score,
  weight,
});

/** Search after a pause in typing, unless the visitor chose the neighbors. */
export function searchSoon(pause = PAUSE) {
  clearTimeout(timer);
  running?.abort();
  const { prompt, chosen, settings } = composer.get();
  if (chosen) return;
  if (!prompt.trim() || settings.k === 0) {
    composer.set({ neighbors: [], found: NOT_SEARCHED });
    return;
  }
  composer.set(({ found }) => ({ found: { ...found, status: found.status === "down" ? "down" : "searching" } }));
  timer = setTimeout(searchNow, pause);
}

async function searchNow() {
  const { signal } = (running = new AbortController());
  const { prompt, settings, chosen } = composer.get();
  if (chosen) return;
  // Meanwhile an image may have restored another prompt and its neighbors.
  const isStale = () => signal.aborted || composer.get().chosen || composer.get().prompt !== prompt;
  const query = { query: prompt, explain: true, check_policy: true, ...(settings.perEntity && { per_entity: true }) };
  const k = settings.k ?? model.get().defaultK;
  if (k === 0) return;
  try {
    const answer = await search({ ...query, k }, signal);
    const nothing = answer.nothing_found ?? null;
    const nearest = nothing ? await findNearest(query, signal) : [];
    if (isStale()) return;
    const neighbors = answer.neighbors.filter(isAllowed).map(pairNeighbor);
    const refused = answer.neighbors
      .filter((pair) => !isAllowed(pair))
      .map(({ id, caption, refused: reason }) => ({ id, caption, reason }));
    composer.set({
      neighbors,
      found: { ...NOT_SEARCHED, status: nothing ? "nothing" : "found", nothing, nearest, refused },
    });
    const leftOut = refused.length > 0 ? ` ${plural(refused.length, "image")} left out.` : "";
    announce(nothing ? `No neighbors. ${nothing.reason}` : `${plural(neighbors.length, "neighbor")} found.${leftOut}`);
  } catch (error) {
    if (isStale()) return;
    const isDown = error.status === 0 || (error.status === 503 && error.field !== "check_policy");
    composer.set({ neighbors: [], found: { ...NOT_SEARCHED, status: isDown ? "down" : "failed", message: error.message } });
    if (isDown) timer = setTimeout(searchNow, RETRY);
  }
}

/** Return the pairs that share any word with the prompt, for a prompt without relevant pairs. */
async function findNearest(query, signal) {
  const answer = await search({ ...query, per_entity: false, k: NEAREST, relevance: "any" }, signal);
  return answer.neighbors.filter(isAllowed);
}

/** Whether the operator's policy lets the service draw from a pair. */
const isAllowed = (pair) => pair.refused === undefined;

/** Search again in place of the visitor's choice. */
export function forgetChoice() {
  composer.set({ chosen: false, neighbors: [] });
  searchSoon(0);
}

/** @param {(neighbors: import("./composer.js").Neighbor[]) => import("./composer.js").Neighbor[]} change */
function choose(change) {
  clearTimeout(timer);
  running?.abort();
  composer.set(({ neighbors, found }) => ({
    neighbors: change(neighbors),
    chosen: true,
    found: { ...found, status: found.status === "searching" ? "idle" : found.status },
  }));
}

export function removeNeighbor(key) {
  choose((all) => all.filter((one) => one.key !== key));
  announce("Neighbor removed.");
}

/** Move a neighbor by a number of places. */
export function moveNeighbor(key, by) {
  choose((all) => {
    const from = all.findIndex((one) => one.key === key);
    const to = Math.min(all.length - 1, Math.max(0, from + by));
    const moved = [...all];
    moved.splice(to, 0, ...moved.splice(from, 1));
    announce(`Neighbor ${to + 1} of ${all.length}.`);
    return moved;
  });
}

/** @param {string} key @param {{weight?: number, caption?: string, cutOut?: import("./composer.js").CutOut | null}} change */
export const changeNeighbor = (key, change) =>
  choose((all) => all.map((one) => (one.key === key ? { ...one, ...change } : one)));

/** Cut the object of a neighbor out, or use its whole image again. @param {import("./composer.js").Neighbor} neighbor */
export async function toggleCutOut(neighbor) {
  const { key } = neighbor;
  if (neighbor.cutOut) return changeNeighbor(key, { cutOut: null });
  const cutting = { image: null, warning: "" };
  changeNeighbor(key, { cutOut: cutting });
  // Meanwhile the visitor may have changed their mind.
  const isStale = () => composer.get().neighbors.find((one) => one.key === key)?.cutOut !== cutting;
  try {
    const found = await cutOut(await reference(neighbor));
    if (isStale()) return;
    changeNeighbor(key, { cutOut: found });
    announce(found.warning || "The object is cut out.");
  } catch (error) {
    if (isStale()) return;
    changeNeighbor(key, { cutOut: null });
    notifyError(error);
  }
}

/** Use a pair of the knowledge base as a neighbor. */
export function usePair(pair) {
  const added = pairNeighbor(pair);
  choose((all) => withinLimit([...all.filter((one) => one.key !== added.key), added]));
  announce(`${pair.caption} is a neighbor now.`);
}

/**
 * Use an image of the visitor as a neighbor, in place of another one if its key is given.
 * @param {Blob} file @param {string | null} replaced
 */
export async function useOwnImage(file, replaced = null) {
  try {
    const image = await prepareImage(file);
    const { neighbors, prompt } = composer.get();
    const before = neighbors.find((one) => one.key === replaced);
    const added = {
      key: `own:${crypto.randomUUID()}`,
      kind: /** @type {const} */ ("own"),
      image,
      caption: before?.caption ?? prompt.trim(),
      weight: before?.weight ?? 1,
    };
    choose((all) => withinLimit(before ? all.map((one) => (one.key === replaced ? added : one)) : [...all, added]));
    announce("Your image is a neighbor now.");
  } catch (error) {
    notifyError(error);
  }
}

/** Add an image of the visitor, as it is shown, to the knowledge base; it stays a neighbor. @throws {Error} It was rejected. */
export async function addToKnowledgeBase(own, { caption, source, license }) {
  const id = await addPair({ image: own.cutOut?.image ?? own.image, caption, source, license });
  const pair = pairNeighbor({ id, caption, source, license, weight: own.weight });
  choose((all) => all.map((one) => (one.key === own.key ? pair : one)));
  announce("The image is in the knowledge base.");
}

/** Drop the oldest neighbors that the cascade has no room for. */
function withinLimit(neighbors) {
  return neighbors.slice(-Math.max(1, model.get().maximumK));
}
