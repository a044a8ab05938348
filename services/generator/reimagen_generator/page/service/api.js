/** The routes of the service that the page uses. */
import { fromBase64 } from "../data/images.js";
import { send, sendForJson } from "./http.js";

const segment = (id) => id.split("/").map(encodeURIComponent).join("/");

/** Return the path of a pair's image. @param {string} id */
export const pairImagePath = (id) => `v1/pairs/${segment(id)}/image`;

/** Return the loaded cascade: its name, sizes and numbers of neighbors. */
export const readModel = async () => (await sendForJson("v1/models")).data[0];

export const search = (body, signal) => sendForJson("v1/knowledge/search", { json: body, signal });

/** Return some pairs of the knowledge base, in the order of their ids or at random. */
export function listPairs({ limit = 24, after = null, order = "id" } = {}) {
  const query = new URLSearchParams({ limit: String(limit), order });
  if (after) query.set("after", after);
  return sendForJson(`v1/knowledge/pairs?${query}`);
}

export const readPair = (id) => sendForJson(`v1/knowledge/pairs/${segment(id)}`);

export const readPairImage = async (id) => (await send(pairImagePath(id))).blob();

/** Add a pair and return its id. @throws {ServiceError} The pair was rejected. */
export async function addPair({ image, caption, source, license }) {
  const form = new FormData();
  form.append("image", image, "image");
  for (const [name, value] of Object.entries({ caption, source, license })) form.append(name, value);
  return (await sendForJson("v1/knowledge/pairs", { form })).ids[0];
}

export const deletePair = (id) => sendForJson(`v1/knowledge/pairs/${segment(id)}`, { method: "DELETE" });

/** Create a job. Sending it twice with the same key creates it once. */
export const createJob = (body, key) => sendForJson("v1/jobs", { json: body, headers: { "Idempotency-Key": key } });

export const readJob = (id) => sendForJson(`v1/jobs/${encodeURIComponent(id)}`);

export const cancelJob = (id) => sendForJson(`v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });

/** Return the waiting jobs, for their positions. */
export const queuedJobs = async () => (await sendForJson("v1/jobs?status=queued&limit=100")).data;

export const readJobImage = async (id) => (await send(`v1/jobs/${encodeURIComponent(id)}/images/0`)).blob();

export const jobEventsPath = (id) => `v1/jobs/${encodeURIComponent(id)}/events`;

/** Cut the object of a reference out. Without an object, the image is null and the warning says why. */
export async function cutOut(reference) {
  const { b64_json: base64, warning = "" } = await sendForJson("v1/images/cut-outs", { json: reference });
  return { image: base64 ? fromBase64(base64, "image/png") : null, warning };
}

/** Ask the service where an image file comes from. */
export function verify(file) {
  const form = new FormData();
  form.append("image", file, "image");
  return sendForJson("v1/verify", { form });
}
