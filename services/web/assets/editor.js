// The topology editor: a text with line numbers, checked by the server as it is typed, and the graph drawn beside it.

import { post } from "./api.js";
import { h, put } from "./dom.js";
import { bytes, count, plural } from "./format.js";
import { drawGraph } from "./graph.js";
import { LateCheck } from "./late_check.js";
import { problemPanel, putFacts, tellVerdict } from "./parts.js";
import { readGraph, TextFault } from "./shorthand.js";
import { ZoomPane } from "./zoom.js";

/**
 * An editor of a topology.
 *
 * `onChange(document)` gets the topology after every check: null while it is not valid. `onSpec(document)` gets a whole
 * run spec that was put in instead.
 */
export class TopologyEditor {
  constructor({ text, onChange, onSpec }) {
    Object.assign(this, { onChange, onSpec, reading: null, document: null });
    this.input = h("textarea", { id: "topology-text", rows: 16, spellcheck: "false", autocapitalize: "off", autocomplete: "off",
      wrap: "off", "aria-describedby": "topology-help topology-faults", oninput: () => this.changed(),
      onscroll: () => { this.gutter.scrollTop = this.input.scrollTop; } });
    this.input.value = text;
    this.gutter = h("div", { class: "gutter", "aria-hidden": "true" });
    this.faults = h("div", { class: "faults", id: "topology-faults", "aria-live": "polite" });
    this.drawing = new ZoomPane("The graph, drawn");
    this.facts = h("dl", { class: "facts" });
    this.verdict = h("p", { class: "verdict-line", role: "status" });
    this.element = h("div", { class: "editor" },
      h("div", { class: "editor-text" }, h("label", { for: "topology-text" }, "Graph"),
        h("p", { class: "hint", id: "topology-help" }, "A run spec or a graph as TOML or JSON, a shorthand such as ", h("code", {}, "layers 2 2"), ", or edges such as ", h("code", {}, "a, b -> out"), "."),
        h("div", { class: "lined" }, this.gutter, this.input), this.faults),
      h("div", { class: "editor-view" }, this.verdict, this.drawing.element, this.facts));
    this.late = new LateCheck({ element: this.element, ask: (signal) => this.check(signal), refuse: (error) => this.refuse(error) });
    this.changed(0);
  }

  get text() {
    return this.input.value;
  }

  /** Put in another text. */
  set text(text) {
    this.input.value = text;
    this.input.scrollTop = 0;
    this.changed(0);
  }

  changed(wait) {
    this.number([]);
    this.late.changed(wait);
  }

  /** Resolve when the text, as it stands now, has been checked and `onChange` has been told. */
  async settled() {
    await this.late.settled();
  }

  async check(signal) {
    this.reading = isToml(this.text) ? await readToml(this.text, signal) : readGraph(this.text);
    const { document } = this.reading;
    if ("topology" in document && this.onSpec) {
      this.onSpec(document);
      return;
    }
    this.report = await post("/v1/topologies:validate", document, { signal });
    this.show(this.report);
    this.settle(document, this.report.drawn);
  }

  show(report) {
    tellVerdict(this.verdict, true, `Valid: ${plural(report.nodes, "node")}, ${plural(report.edges, "edge")}, ${plural(report.depth, "layer")} deep`);
    put(this.faults);
    this.number([]);
    this.drawing.show(drawGraph(report.drawn));
    putFacts(this.facts, factsOf(report));
  }

  /** Show why the text is no topology. */
  refuse(error) {
    this.settle(null);
    if (error instanceof TextFault) this.showFaults([{ path: "", message: error.message, line: error.line }]);
    else if (error.faults && error.faults.length) this.showFaults(error.faults);
    else put(this.faults, problemPanel(error, () => this.changed(0)));
  }

  /** Show what is wrong, `{path, message}` each: beside the text, and at its lines. */
  showFaults(faults) {
    const placed = faults.map((fault) => ({ ...fault, line: fault.line ?? (fault.path && this.reading ? this.reading.line(fault.path) : null) }));
    tellVerdict(this.verdict, false, "Not valid yet");
    this.number(placed.map((fault) => fault.line));
    put(this.faults, h("ul", {}, placed.map((fault) => h("li", {},
      fault.line && h("button", { type: "button", class: "small", onclick: () => this.goTo(fault.line) }, `line ${fault.line}`),
      " ", fault.path && h("code", {}, fault.path), " ", fault.message))));
  }

  /** Take a text's topology; `drawn` has all of its nodes, one by one. */
  settle(document, drawn = null) {
    this.document = document;
    this.onChange(document, drawn);
  }

  goTo(line) {
    const lines = this.text.split("\n");
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    this.input.focus();
    this.input.setSelectionRange(start, start + lines[line - 1].length);
    this.input.scrollTop = Math.max(0, (line - 4) * 20);
  }

  number(wrong) {
    const lines = this.text.split("\n").length;
    put(this.gutter, Array.from({ length: lines }, (_, place) => h("span", { class: wrong.includes(place + 1) && "wrong" }, String(place + 1))));
    this.gutter.scrollTop = this.input.scrollTop;
  }

  close() {
    this.late.close();
  }
}

/** Whether a text is TOML: a line gives a key its value, or a table its name. */
function isToml(text) {
  return !text.trim().startsWith("{") && /^\s*([\w."-]+\s*=|\[+[\w.]+\]+\s*(#|$))/m.test(text);
}

async function readToml(text, signal) {
  try {
    const { document } = await post("/v1/specs:read", { toml: text }, { signal });
    return { document, line: () => null };
  } catch (error) {
    const message = error.faults && error.faults.length ? error.faults[0].message : null;
    if (!message) throw error;
    throw new TextFault(message, Number(/line (\d+)/.exec(message)?.[1]) || null);
  }
}

function factsOf(report) {
  return [
    ["Output", report.output],
    ["Calls per answer", count(report.calls_per_answer)],
    ["Wait for each other", plural(report.critical_path.length, "call")],
    ["Adapters", count(report.adapters)],
    ["Trained numbers", count(report.trainable_parameters)],
    ["Tokens per answer, at most", count(report.tokens.completion_max)],
    ["Weights sent per publish", bytes(report.memory.adapter_bytes)],
  ];
}
