// The graph that a plan of growth makes, asked of the server as the plan changes, and drawn with its new nodes marked.

import { post } from "./api.js";
import { h, put } from "./dom.js";
import { count, plural } from "./format.js";
import { drawGraph } from "./graph.js";
import { LateCheck } from "./late_check.js";
import { putFacts, sentence, tellVerdict } from "./parts.js";
import { ZoomPane } from "./zoom.js";

/**
 * A view of what a run would be grown to.
 *
 * `compose()` gives the body of the request as it stands now. `onFaults(error)` gets why it is refused: null where it
 * is not.
 */
export class GrownGraph {
  constructor({ path, compose, onFaults }) {
    Object.assign(this, { path, compose, onFaults });
    this.verdict = h("p", { class: "verdict-line", role: "status" });
    this.drawing = new ZoomPane("The grown graph");
    this.facts = h("dl", { class: "facts" });
    this.element = h("fieldset", { class: "becomes" }, h("legend", {}, "What it becomes"), this.verdict, this.drawing.element, this.facts);
    this.late = new LateCheck({ element: this.element, ask: (signal) => this.check(signal), refuse: (error) => this.refuse(error) });
  }

  /** Ask again, a moment after the last change. */
  changed(wait) {
    this.late.changed(wait);
  }

  async check(signal) {
    this.show(await post(`${this.path}/grow:validate`, this.compose(), { signal }));
    this.onFaults(null);
  }

  refuse(error) {
    tellVerdict(this.verdict, false, error.faults && error.faults.length ? "Not valid yet" : sentence(error.message));
    this.onFaults(error);
  }

  show({ drawn, new: fresh, ...report }) {
    tellVerdict(this.verdict, true, `${plural(report.nodes, "node")}, ${fresh.length} of them new`);
    const marks = Object.fromEntries(fresh.map((node) => [node, "new"]));
    const label = `graph of ${report.nodes} nodes; new are ${fresh.join(", ") || "none"}`;
    this.drawing.show(drawGraph(drawn, { kinds: marks, captions: marks, label }));
    const facts = [["Output", report.output], ["Calls per answer", count(report.calls_per_answer)],
      ["Wait for each other", plural(report.critical_path.length, "call")], ["Trained numbers", count(report.trainable_parameters)],
      ["Calls per step", count(report.tokens.calls_per_step)]];
    putFacts(this.facts, facts);
  }

  /** Ask no more. */
  close() {
    this.late.close();
  }
}
