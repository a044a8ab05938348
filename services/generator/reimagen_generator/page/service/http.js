/** Requests to the service that serves this page, with the API key if there is one. */
import { keepKey, readKey } from "../data/preferences.js";
import { createStore } from "../lib/store.js";

/** The key, and whether the service asked for one. */
export const session = createStore({ key: readKey(), asking: false, reason: "" });

/** An answer of the service that is an error, or no answer (status 0). */
export class ServiceError extends Error {
  /** @param {number} status @param {string} message @param {string | null} field @param {number | null} retryAfter */
  constructor(status, message, field = null, retryAfter = null) {
    super(message);
    this.status = status;
    this.field = field;
    this.retryAfter = retryAfter;
  }
}

/** Use a key from now on. @param {string | null} key @param {boolean} onDevice */
export function useKey(key, onDevice = false) {
  keepKey(key, onDevice);
  session.set({ key, asking: false, reason: "" });
}

/**
 * Send a request and return its response.
 * @param {string} path Relative to the page, such as `v1/models`.
 * @param {{method?: string, json?: unknown, form?: FormData, headers?: Record<string, string>, signal?: AbortSignal}} options
 * @throws {ServiceError} The service does not answer, or answers with an error.
 */
export async function send(path, { method, json, form, headers = {}, signal } = {}) {
  const { key } = session.get();
  const all = { ...headers };
  if (key) all.Authorization = `Bearer ${key}`;
  if (json !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (json === undefined && form === undefined ? "GET" : "POST"),
      headers: all,
      body: json === undefined ? form : JSON.stringify(json),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServiceError(0, "The service does not answer. Check that it runs, and your connection to it.");
  }
  if (response.ok) return response;
  const error = await readError(response);
  if (response.status === 401) session.set({ asking: true, reason: key ? error.message : "" });
  throw error;
}

/** Send a request and return the JSON of its answer. */
export const sendForJson = async (path, options) => (await send(path, options)).json();

async function readError(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // A proxy answered in place of the service.
  }
  const detail = problem.detail ?? `The service answers with status ${response.status}.`;
  const sentence = detail.charAt(0).toUpperCase() + detail.slice(1);
  const wait = retryAfter && response.status === 429 ? ` Try again in ${retryAfter} s.` : "";
  return new ServiceError(response.status, sentence + wait, problem.field ?? null, retryAfter);
}
