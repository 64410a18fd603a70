// What happened in a run, newest first, and the log of its driver, read while it is open.

import { get } from "./api.js";
import { h, put } from "./dom.js";
import { number, plural } from "./format.js";
import { card, problemPanel } from "./parts.js";

const MAX_SHOWN = 100;
const MAX_LINES = 400;

/** The panel of events and log lines. */
export class LogPanel {
  constructor(history, path) {
    this.history = history;
    this.path = path;
    this.after = 0;
    this.lines = [];
    this.seen = 0;
    this.isReading = false;
    this.list = h("ol", { class: "events", tabindex: 0, "aria-label": "Events, newest first" });
    this.log = h("div", { class: "log", tabindex: 0, role: "log", "aria-label": "Log lines, newest last" });
    this.details = h("details", { ontoggle: () => this.read() }, h("summary", {}, "Log lines of the driver"), this.log);
    this.element = card("What happened", {}, this.list, this.details);
    put(this.list, h("li", { class: "note" }, "Nothing yet."));
  }

  draw() {
    const { told } = this.history;
    if (told.length !== this.seen) {
      this.seen = told.length;
      put(this.list, told.slice(-MAX_SHOWN).reverse().map(eventLine));
    }
    this.read();
  }

  async read() {
    if (!this.details.open || this.isReading) return;
    this.isReading = true;
    try {
      for (;;) {
        const page = await get(`${this.path}/logs?after=${this.after}&limit=1000`);
        this.after = page.last_id;
        this.append(page.data);
        if (!page.has_more) break;
      }
      if (!this.lines.length) put(this.log, h("p", { class: "note" }, "No log lines. A run that has not begun has none."));
    } catch (error) {
      if (!this.lines.length) put(this.log, problemPanel(error, () => this.read()));
    }
    this.isReading = false;
  }

  append(entries) {
    if (!entries.length) return;
    const isAtEnd = this.log.scrollTop + this.log.clientHeight > this.log.scrollHeight - 30;
    this.lines = [...this.lines, ...entries].slice(-MAX_LINES);
    put(this.log, this.lines.map(logLine));
    if (isAtEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  close() {
    this.details.open = false;
  }
}

function eventLine(event) {
  const [text, kind] = wordsOf(event);
  return h("li", { class: kind }, h("time", {}, clock(event.time_s)), h("span", {}, text));
}

/** Return an event in words, and how it is shown. */
function wordsOf(event) {
  switch (event.type) {
    case "state": return [`${event.state}${event.message ? `: ${event.message}` : ""}`, event.state === "failed" ? "bad" : "strong"];
    case "run_started": return [event.resumed ? "goes on from its last checkpoint" : "begins", ""];
    case "stage_started": return [`${event.name}: ${plural(event.topology.nodes.length, "node")}, ${plural(event.trainable_parameters, "trained number")}${event.level ? `, level ${event.level}` : ""}, up to ${plural(event.steps, "step")}`, "strong"];
    case "evaluated": return [`step ${event.step}: ${event.correct} of ${event.examples} right, ${event.mode}${event.purpose === "check" ? " (check)" : ""}`, ""];
    case "stage_ended": return [`${event.name} ends after ${plural(event.steps, "step")}: ${event.reason}`, ""];
    case "notice": return [event.message, event.severity === "warning" ? "bad" : ""];
    case "run_ended": return [`ends: ${event.status}${event.message ? `, ${event.message}` : ""}`, event.status === "failed" ? "bad" : ""];
    default: return [`${event.type}${event.message ? `: ${event.message}` : ""}`, ""];
  }
}

function logLine(line) {
  const known = ["id", "time", "level", "logger", "message", "exception", "run_id"];
  const more = Object.entries(line).filter(([name]) => !known.includes(name))
    .map(([name, value]) => `${name}=${typeof value === "number" ? number(value) : typeof value === "string" ? value : JSON.stringify(value)}`);
  const time = typeof line.time === "string" ? line.time.slice(11, 19) : "";
  return h("p", { class: ["WARNING", "ERROR", "CRITICAL"].includes(line.level) ? "bad" : "" },
    h("span", { class: "dim" }, `${time} `), `${line.message ?? ""} `, h("span", { class: "dim" }, more.join(" ")),
    line.exception && h("span", { class: "trace" }, line.exception));
}

function clock(time) {
  return Number.isFinite(time) ? new Date(1000 * time).toLocaleTimeString() : "";
}
