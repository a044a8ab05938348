/** Follow the unfinished drawings: streams of their events, and positions in the queue. */
import { announce } from "../lib/notices.js";
import { jobEventsPath, queuedJobs, readJob, readJobImage } from "../service/api.js";
import { session } from "../service/http.js";
import { follow, isPassing } from "../service/stream.js";
import { changeDrawing, drawings, isFinished } from "./drawings.js";

// Browsers open six connections to a service. The others are for images and searches.
const STREAMS = 3;
const POSITIONS_EVERY = 1_000;
const PAUSE = 1_000;

/** @type {Map<string, AbortController>} */
const followed = new Map();
let reading = false;
let timer = 0;

/** Follow the drawings from now on. */
export function startWatching() {
  drawings.subscribe(watch);
  session.subscribe(watch);
  document.addEventListener("visibilitychange", watch);
  watch();
}

function watch() {
  if (session.get().asking) return;
  const waiting = drawings.get().all.filter((one) => !isFinished(one));
  for (const [id, controller] of followed) {
    if (!waiting.some((one) => one.id === id)) {
      controller.abort();
      followed.delete(id);
    }
  }
  for (const one of waiting.reverse()) {
    if (followed.size >= STREAMS) break;
    if (!followed.has(one.id)) followOne(one.id);
  }
  if (!timer && waiting.some((one) => one.status === "queued") && !document.hidden)
    timer = setTimeout(readPositions, POSITIONS_EVERY);
}

async function readPositions() {
  timer = 0;
  if (reading) return;
  reading = true;
  try {
    const positions = new Map((await queuedJobs()).map((job) => [job.id, job.position]));
    for (const one of drawings.get().all) {
      const position = positions.get(one.id) ?? null;
      if (one.status === "queued" && position !== (one.position ?? null)) changeDrawing(one.id, { position }, false);
    }
  } catch {
    // The streams report a service that does not answer.
  } finally {
    reading = false;
    watch();
  }
}

async function followOne(id) {
  const controller = new AbortController();
  followed.set(id, controller);
  const onConnection = (connection) => changeDrawing(id, { connection }, false);
  try {
    for await (const event of follow(jobEventsPath(id), { signal: controller.signal, onConnection })) apply(id, event);
    if (!controller.signal.aborted) await finish(id);
  } catch (error) {
    if (isPassing(error)) await new Promise((resolve) => setTimeout(resolve, PAUSE));
    else if (error.status !== 401) changeDrawing(id, { status: "failed", error: reasonOf(error) });
  } finally {
    followed.delete(id);
    watch();
  }
}

const reasonOf = (error) =>
  error.status === 404 ? "The service no longer has this image: finished jobs expire." : error.message;

function apply(id, { type, data }) {
  switch (type) {
    case "job.queued":
      changeDrawing(id, { status: "queued", progress: null, preview: undefined }, false);
      break;
    case "job.running":
      changeDrawing(id, { status: "running", position: null });
      break;
    case "job.neighbors":
      changeDrawing(id, { neighbors: data.neighbors, nothing: data.nothing_found ?? null, refused: data.refused ?? [] });
      break;
    case "job.progress":
      changeDrawing(
        id,
        { progress: data, ...(data.b64_json && { preview: `data:image/png;base64,${data.b64_json}` }) },
        false,
      );
      if (data.step === 1) announce(`Stage ${data.stage + 1}, ${data.size} pixels.`);
      break;
  }
}

/** Take over the end of a job, with its image. */
async function finish(id) {
  const job = await readJob(id);
  if (job.status === "completed") {
    const image = await readJobImage(id);
    changeDrawing(id, { status: job.status, seed: job.data[0].seed, image, preview: undefined, progress: null });
    announce("The image is finished.");
  } else if (job.status === "failed" || job.status === "cancelled") {
    changeDrawing(id, { status: job.status, error: job.error?.message ?? "", preview: undefined });
    announce(job.status === "failed" ? "Drawing failed." : "Drawing was cancelled.");
  }
}
