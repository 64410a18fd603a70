// The API: requests, their errors, and the key, which is kept for this tab only and sent nowhere but here.

import { save } from "./save.js";

const KEY = "neuromas.key";

/** Why a request was not answered: the body of the API's errors, or that the server could not be reached. */
export class Problem extends Error {
  constructor(status, error, retryAfter = null) {
    super(error.message || "something went wrong");
    this.name = "Problem";
    this.status = status;
    this.code = error.code || "error";
    this.param = error.param || null;
    this.faults = Array.isArray(error.faults) ? error.faults : [];
    this.retryAfter = retryAfter;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Return the headers that every request has. */
export function headers(more = {}) {
  return key.get() ? { Authorization: `Bearer ${key.get()}`, ...more } : more;
}

/** Return the JSON that answers GET. */
export const get = (path, options) => send("GET", path, undefined, options);
/** Return the JSON that answers POST. */
export const post = (path, body, options) => send("POST", path, body, options);
/** Return the JSON that answers PATCH. */
export const patch = (path, body, options) => send("PATCH", path, body, options);
/** Return the JSON that answers DELETE. */
export const remove = (path, options) => send("DELETE", path, undefined, options);

/** Return the JSON that answers PUT of a file, which is read as it is sent. */
export async function putFile(path, file) {
  return (await raw(path, { method: "PUT", headers: headers({ "Content-Type": "application/octet-stream" }), body: file })).json();
}

async function send(method, path, body, options = {}) {
  const own = body === undefined ? {} : { "Content-Type": "application/json" };
  if (options.once) own["Idempotency-Key"] = options.once;
  const answer = await raw(path, {
    method,
    headers: headers(own),
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: options.signal,
  });
  return answer.status === 204 ? null : answer.json();
}

/**
 * Return the answer to a request, whatever its body.
 *
 * Throws Problem where it is no success, and the abort's own error where it was aborted.
 */
export async function raw(path, init) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...init });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    tellReach(false);
    throw new Problem(0, { code: "unreachable", message: "the server cannot be reached now" });
  }
  tellReach(true);
  if (answer.ok) return answer;
  throw await problemOf(answer);
}

async function problemOf(answer) {
  let error = { code: "http", message: `the server answered ${answer.status} ${answer.statusText}` };
  try {
    error = (await answer.json()).error || error;
  } catch {
    // Not of the API, such as a proxy's page: the status says what there is to say.
  }
  if (answer.status === 401) window.dispatchEvent(new CustomEvent("key-wanted", { detail: error.message }));
  return new Problem(answer.status, error, Number(answer.headers.get("Retry-After")) || null);
}

let reached = true;

function tellReach(isReached) {
  if (reached === isReached) return;
  reached = isReached;
  window.dispatchEvent(new CustomEvent("reach", { detail: isReached }));
}

/**
 * Return a `post(path, body)` that makes nothing twice: what is sent again after its answer was lost has the same
 * Idempotency-Key. What was refused, or is another body, has a new one.
 */
export function submitter() {
  let sent = null;
  let once = "";
  return async (path, body) => {
    const text = JSON.stringify(body);
    if (text !== sent) once = randomKey();
    sent = text;
    try {
      return await post(path, body, { once });
    } catch (error) {
      if (error.status >= 400 && error.status < 500 && error.code !== "idempotency_in_progress") sent = null;
      throw error;
    }
  };
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let capable = null;

/** Return what the service offers; asked for once. */
export function capabilities() {
  if (!capable) capable = get("/v1/capabilities").catch((error) => { capable = null; throw error; });
  return capable;
}

/** Forget what was learned with another key. */
export function forgetCapabilities() {
  capable = null;
}

/** Save what a path answers as a file. */
export async function download(path, name) {
  const answer = await raw(path, { headers: headers() });
  save(await answer.blob(), name);
}

/**
 * Do something now and then again and again, not while the page is hidden; returns what ends it.
 *
 * `work` returns the seconds until the next time, or null for the end.
 */
export function again(work) {
  let timer = 0;
  let isOver = false;
  let isWorking = false;
  const turn = async () => {
    if (isOver || isWorking) return;
    clearTimeout(timer);
    isWorking = true;
    const seconds = await work();
    isWorking = false;
    if (isOver || seconds === null) return;
    if (!document.hidden) timer = setTimeout(turn, 1000 * seconds);
  };
  const wake = () => { if (!document.hidden) turn(); };
  document.addEventListener("visibilitychange", wake);
  turn();
  return () => {
    isOver = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", wake);
  };
}
