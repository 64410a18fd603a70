// Following a stream of the API: server-sent events, read with fetch so that the key can go along in a header.
//
// A browser gives one server six connections, over all its tabs. So a page follows one stream at a time, and none while
// it is hidden. Where events do not come through (a proxy that holds them back, no place for another follower), pages
// of the stream are asked for instead.

import { get, headers, Problem, raw } from "./api.js";

/** States that a run never leaves. */
export const ENDED = ["succeeded", "failed", "cancelled"];

const FIRST_WORD_S = 8; // the server says something at once,
const SILENCE_S = 40; //    and then every 15 s
const MAX_SILENCES = 2;
const MAX_PAUSE_S = 15;
const POLL_WAIT_S = 20;
const CROWDED_S = 3;
const FINAL = [401, 403, 404];

/**
 * Follow a stream from its beginning, or from an id on.
 *
 * `onEntries(entries)` gets what happened, in order and each once; `onStatus` "live", "polling" or "away";
 * `onEnd(state)` the state in which the run ended. Returns what ends the following.
 */
export function follow(path, { after = 0, onEntries, onStatus = () => {}, onEnd = () => {} }) {
  const follower = new Follower(path, after, { onEntries, onStatus, onEnd });
  follower.wake();
  return () => follower.stop();
}

class Follower {
  constructor(path, after, tell) {
    this.path = path;
    this.after = after;
    this.tell = tell;
    this.failures = 0;
    this.silences = 0;
    this.isCrowded = false;
    this.isOver = false;
    this.abort = null;
    this.onVisible = () => this.wake();
    document.addEventListener("visibilitychange", this.onVisible);
  }

  stop() {
    this.isOver = true;
    document.removeEventListener("visibilitychange", this.onVisible);
    if (this.abort) this.abort.abort();
  }

  wake() {
    if (this.isOver) return;
    if (document.hidden) {
      if (this.abort) this.abort.abort();
    } else if (!this.abort) this.run();
  }

  async run() {
    this.abort = new AbortController();
    const { signal } = this.abort;
    while (!this.isOver && !signal.aborted) {
      try {
        await (this.silences < MAX_SILENCES && !this.isCrowded ? this.listen(signal) : this.poll(signal));
      } catch (error) {
        if (signal.aborted) break;
        await this.recover(error, signal);
      }
    }
    this.abort = null;
    this.wake();
  }

  async recover(error, signal) {
    if (error instanceof Problem && FINAL.includes(error.status)) {
      this.stop();
      return;
    }
    if (error.status === 429) this.isCrowded = true;
    this.failures += 1;
    this.tell.onStatus("away");
    await pause(Math.min(MAX_PAUSE_S, error.retryAfter || 0.25 * 2 ** this.failures), signal);
  }

  async listen(signal) {
    const heard = new AbortController();
    const hangUp = () => heard.abort();
    const hush = () => { this.silences += 1; hangUp(); };
    let watch = setTimeout(hush, 1000 * FIRST_WORD_S);
    signal.addEventListener("abort", hangUp);
    try {
      const own = { Accept: "text/event-stream", ...(this.after ? { "Last-Event-ID": String(this.after) } : {}) };
      const answer = await raw(this.path, { headers: headers(own), signal: heard.signal });
      if (answer.status === 204) return this.end(null);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new Error("the stream broke off");
        clearTimeout(watch);
        watch = setTimeout(hangUp, 1000 * SILENCE_S);
        this.failures = 0;
        this.silences = 0;
        this.tell.onStatus("live");
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        if (this.take(blocks)) return undefined;
      }
    } finally {
      clearTimeout(watch);
      hangUp();
      signal.removeEventListener("abort", hangUp);
    }
  }

  /** Pass on the events of some blocks; returns whether the last of all was among them. */
  take(blocks) {
    const found = blocks.map(parse).filter((event) => event.data !== null);
    const last = found.find((event) => event.name === "end");
    this.pass(found.filter((event) => event.name !== "end").map((event) => event.data));
    if (last) this.end(last.data.state);
    return Boolean(last);
  }

  async poll(signal) {
    const query = new URLSearchParams({ after: this.after, limit: 500, wait_s: this.isCrowded ? 0 : POLL_WAIT_S });
    const page = await get(`${this.path}?${query}`, { signal });
    this.failures = 0;
    this.tell.onStatus("polling");
    this.pass(page.data);
    const last = page.data.find((entry) => entry.type === "state" && ENDED.includes(entry.state));
    if (last && !page.has_more) this.end(last.state);
    else if (this.isCrowded && !page.has_more) await pause(CROWDED_S, signal);
  }

  pass(entries) {
    const fresh = entries.filter((entry) => entry.id > this.after);
    if (!fresh.length) return;
    this.after = fresh[fresh.length - 1].id;
    this.tell.onEntries(fresh);
  }

  end(state) {
    this.stop();
    this.tell.onEnd(state);
  }
}

function parse(block) {
  const event = { name: "message", data: null };
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    if (line.startsWith("data: ")) event.data = JSON.parse(line.slice(6));
  }
  return event;
}

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
