/** Drawings: the jobs of this browser, waiting, running and finished. */
import { loadDrawings, removeAllDrawings, removeDrawing, saveDrawing } from "../data/database.js";
import { announce } from "../lib/notices.js";
import { createStore } from "../lib/store.js";
import { cancelJob, createJob } from "../service/api.js";
import { ServiceError } from "../service/http.js";
import { composer, snapshot } from "./composer.js";
import { buildRequest } from "./request.js";

/**
 * @typedef {{id: string, group: string, title: string, label: string, order: number, created: number,
 *   status: "queued" | "running" | "completed" | "failed" | "cancelled", seed: number, size: number | null,
 *   taken: ReturnType<typeof snapshot>, neighbors: any[] | null, nothing: any,
 *   refused?: {id: string, reason: string}[],
 *   image: Blob | null, error: string, progress: any, preview?: string, position?: number | null,
 *   connection?: "open" | "broken"}} Drawing
 * @typedef {{label: string, settings?: Partial<import("./composer.js").Settings>}} Variant
 */

const SEEDS = 2 ** 32;
const ATTEMPTS = 3;

export const drawings = createStore({
  /** Newest first. @type {Drawing[]} */
  all: [],
  loaded: false,
  /** The group that is shown large. @type {string | null} */
  shown: null,
  /** Whether a request is being sent. */
  sending: false,
});

export const isFinished = ({ status }) => !["queued", "running"].includes(status);

/** Load the history. */
export async function loadHistory() {
  const kept = await loadDrawings();
  drawings.set(({ all, shown }) => ({
    all: [...all, ...kept],
    loaded: true,
    shown: shown ?? kept.find((one) => !isFinished(one))?.group ?? kept[0]?.group ?? null,
  }));
}

/** Return the drawings in groups, newest first; within a group, in their order. */
export function groupsOf(all) {
  const groups = new Map();
  for (const one of all) groups.set(one.group, [one, ...(groups.get(one.group) ?? [])]);
  return [...groups.values()].map((group) => group.sort((one, other) => one.order - other.order));
}

/** Change a drawing and keep it. @param {string} id @param {Partial<Drawing>} change */
export function changeDrawing(id, change, keep = true) {
  drawings.set(({ all }) => ({ all: all.map((one) => (one.id === id ? { ...one, ...change } : one)) }));
  const changed = drawings.get().all.find((one) => one.id === id);
  if (keep && changed) saveDrawing(changed);
}

/**
 * Draw the composer's prompt, once for each variant, with one seed unless a variant has its own.
 * @param {string} title @param {Variant[]} variants
 */
export async function draw(title = "", variants = [{ label: "" }]) {
  const taken = snapshot();
  if (!taken.prompt.trim()) {
    composer.set({ problem: { field: "prompt", message: "Write what to draw first." } });
    return;
  }
  const unnamed = taken.chosen && taken.neighbors.some((one) => !one.caption.trim());
  if (unnamed) {
    composer.set({ problem: { field: "references", message: "Write what each of your images shows first." } });
    return;
  }
  drawings.set({ sending: true });
  composer.set({ problem: null });
  const seed = taken.settings.seed ?? Math.floor(Math.random() * SEEDS);
  const group = crypto.randomUUID();
  try {
    for (const [order, { label, settings }] of variants.entries()) {
      const own = { ...taken, settings: { ...taken.settings, seed, ...settings } };
      await create(own, { group, title, label, order });
    }
    announce(variants.length > 1 ? `${variants.length} images are in the queue.` : "The image is in the queue.");
  } catch (error) {
    composer.set({ problem: { field: error.field ?? "", message: error.message } });
  } finally {
    drawings.set({ sending: false });
  }
}

async function create(taken, { group, title, label, order }) {
  const job = await createWithRetries(await buildRequest(taken));
  /** @type {Drawing} */
  const drawing = {
    ...{ id: job.id, group, title, label, order, created: Date.now(), status: job.status, seed: job.request.seed },
    ...{ size: Number.parseInt(job.request.size, 10) || null, position: job.position ?? null, taken },
    ...{ neighbors: null, nothing: null, image: null, error: "", progress: null },
  };
  drawings.set(({ all }) => ({ all: [drawing, ...all], shown: group }));
  await saveDrawing(drawing);
}

async function createWithRetries(body) {
  const key = crypto.randomUUID();
  for (let attempt = 1; ; attempt++) {
    try {
      return await createJob(body, key);
    } catch (error) {
      // The answer was lost, and with the same key nothing is drawn twice.
      if (!(error instanceof ServiceError) || error.status !== 0 || attempt === ATTEMPTS) throw error;
    }
  }
}

/** Cancel a drawing. */
export async function cancelDrawing(id) {
  try {
    const job = await cancelJob(id);
    if (job.status === "cancelled") changeDrawing(id, { status: "cancelled" });
  } catch (error) {
    if (error.status !== 404) throw error;
    changeDrawing(id, { status: "cancelled" });
  }
  announce("Cancelled.");
}

/** Remove a group from the history. */
export function forgetGroup(group) {
  const { all, shown } = drawings.get();
  for (const one of all.filter((each) => each.group === group)) removeDrawing(one.id);
  const kept = all.filter((one) => one.group !== group);
  drawings.set({ all: kept, shown: shown === group ? (kept[0]?.group ?? null) : shown });
}

/** Remove all finished drawings from the history. */
export async function forgetAll() {
  const kept = drawings.get().all.filter((one) => !isFinished(one));
  await removeAllDrawings();
  for (const one of kept) await saveDrawing(one);
  drawings.set({ all: kept, shown: kept[0]?.group ?? null });
}
