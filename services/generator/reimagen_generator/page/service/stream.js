/** Server-sent events over fetch: EventSource cannot send an API key. A broken stream is continued. */
import { send, ServiceError } from "./http.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8_000;
// The service sends a comment every 15 seconds while nothing happens.
const SILENCE = 40_000;
const LAST = /^(end|job\.(completed|failed|cancelled))$/;

/** Return whether an error may be over in a moment. @param {any} error */
export const isPassing = (error) => !(error instanceof ServiceError) || [0, 429, 502, 503, 504].includes(error.status);

/** @typedef {{id: string, type: string, data: any}} StreamEvent */

/**
 * Yield the events of a job until it ends. After an interruption, go on after the last event. The event `end` says that
 * the job had ended before.
 * @param {string} path
 * @param {{signal: AbortSignal, onConnection: (state: "open" | "broken") => void}} options
 * @returns {AsyncGenerator<StreamEvent>}
 * @throws {ServiceError} The service refuses the stream.
 */
export async function* follow(path, { signal, onConnection }) {
  let lastId = "";
  let pause = FIRST_PAUSE;
  while (!signal.aborted) {
    try {
      for await (const event of connect(path, lastId, signal, onConnection)) {
        pause = FIRST_PAUSE;
        lastId = event.id || lastId;
        yield event;
        if (LAST.test(event.type)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isPassing(error)) throw error;
    }
    onConnection("broken");
    await sleep(pause, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

/** @returns {AsyncGenerator<StreamEvent>} */
async function* connect(path, lastId, signal, onConnection) {
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  signal.addEventListener("abort", stop);
  let silence = setTimeout(stop, SILENCE);
  try {
    const headers = { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) };
    const response = await send(path, { headers, signal: attempt.signal });
    if (response.status === 204) {
      yield { id: lastId, type: "end", data: {} };
      return;
    }
    onConnection("open");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE);
      const blocks = (text + value).split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", stop);
    attempt.abort();
  }
}

/** @param {string} block @returns {StreamEvent | null} */
function parse(block) {
  const fields = { id: "", event: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return fields.data ? { id: fields.id, type: fields.event, data: JSON.parse(fields.data) } : null;
}

/** Wait, or until the browser is online again, or the signal. */
function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resolve(undefined);
    };
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}
