// The page that makes a run: the topology editor, and the form that submits what it holds.

import { capabilities, get, post, submitter } from "./api.js";
import { announce, h, put, say } from "./dom.js";
import { TopologyEditor } from "./editor.js";
import { bytes, count, plural } from "./format.js";
import { ImportForm } from "./import_form.js";
import { LateCheck } from "./late_check.js";
import { card, pageHead, problemPanel, putFacts, putPage, tellVerdict } from "./parts.js";
import { RunForm } from "./run_form.js";
import { TextFault } from "./shorthand.js";

const DIAMOND = { name: "diamond", nodes: [{ id: "top" }, { id: "left" }, { id: "right", temperature: 0.7 },
  { id: "join", max_tokens: 6 }], edges: [["top", "left"], ["top", "right"], ["left", "join"], ["right", "join"]], output: "join" };
// What to begin with: a graph as text, and what differs from the usual run.
const EXAMPLES = {
  "Quick try: 3 nodes, about a minute": { text: "layers 2", spec: { name: "quick-try", task: { type: "chain", hops: 2 }, training: { steps: 40 } } },
  "Five nodes in a row, five hops": { text: "chain 5", spec: { name: "quickstart", seed: 1, task: { type: "chain", hops: 5 }, training: { steps: 80 } } },
  "A tree that computes": { text: "tree 3", spec: { name: "tree", task: { type: "tree", depth: 3 }, training: { steps: 120 } } },
  "A diamond, node by node": { text: JSON.stringify(DIAMOND, null, 1), spec: { name: "diamond", task: { type: "chain", hops: 3 } } },
  "Edges": { text: "# who reads whom\na, b -> c, d -> out", spec: { name: "edges", task: { type: "chain", hops: 3 } } },
  "Grows 3 to 5 to 7 nodes": { text: "chain 3", spec: { name: "growth", task: { type: "chain", hops: 7 }, training: { steps: 100 },
    growth: { levels: [3, 5, 7], plans: [{ edits: [{ edit: "append", layers: [1, 1] }] }], max_steps_per_level: 45 } } },
};
const FIRST = Object.keys(EXAMPLES)[0];

// What was typed stays while one looks at other pages.
let draft = null;

/** Return the page that makes a run. */
export function newRunPage({ query }) {
  const page = new NewRunPage();
  page.open(query.get("from"));
  return { element: page.element, title: "New run", close: () => page.close() };
}

class NewRunPage {
  constructor() {
    Object.assign(this, { editor: null, form: null, topology: null, late: null, post: submitter() });
    this.element = h("div", {}, pageHead("NeuroMAS", "New run"), h("p", { class: "note" }, "loading …"));
  }

  async open(from) {
    try {
      const [offer, run] = await Promise.all([capabilities(), from ? get(`/v1/runs/${encodeURIComponent(from)}`) : null]);
      this.offer = offer;
      if (run) this.build(topologyText(run.spec.topology), run.spec);
      else if (draft) this.build(draft.text, draft.spec);
      else this.build(EXAMPLES[FIRST].text, EXAMPLES[FIRST].spec);
    } catch (error) {
      putPage(this.element, pageHead("NeuroMAS", "New run"), problemPanel(error, () => this.open(from)));
    }
  }

  build(text, spec) {
    this.example = h("select", { id: "example", onchange: () => this.begin(this.example.value) },
      h("option", { value: "" }, "choose …"), Object.keys(EXAMPLES).map((name) => h("option", { value: name }, name)));
    this.formPlace = h("div", {});
    this.verdict = h("p", { class: "verdict-line", role: "status" });
    this.needs = h("dl", { class: "facts" });
    this.left = h("p", { class: "hint" });
    this.trouble = h("div", {});
    this.button = h("button", { type: "submit", class: "main" }, "Submit the run");
    this.imports = new ImportForm();
    const submission = h("div", { class: "submit-row" }, this.verdict, this.needs, this.left, this.trouble, this.button);
    this.late = new LateCheck({ element: submission, ask: (signal) => this.check(signal), refuse: (error) => this.refuse(error) });
    this.fill(spec);
    this.editor = new TopologyEditor({ text, onChange: (topology, drawn) => this.take(topology, drawn), onSpec: (whole) => this.takeSpec(whole) });
    putPage(this.element, h("div", { class: "head-row" }, pageHead("NeuroMAS", "New run",
      h("p", { class: "about" }, "Describe a graph, say what it shall learn, submit.")),
    h("div", { class: "tools" }, h("label", { for: "example" }, "Example"), this.example)),
    card("1. The graph", {}, this.editor.element),
    card("2. What it learns", {}, h("form", { novalidate: true, onsubmit: (event) => this.submit(event) },
      this.formPlace, this.imports.element, submission)));
  }

  fill(spec) {
    this.form = new RunForm(this.offer, spec, () => this.changed());
    put(this.formPlace, this.form.element);
  }

  begin(name) {
    if (!EXAMPLES[name]) return;
    this.fill(EXAMPLES[name].spec);
    this.editor.text = EXAMPLES[name].text;
  }

  /** Take a whole run spec that was put into the editor: its graph stays there, the rest goes to the form. */
  takeSpec(spec) {
    this.fill(spec);
    this.editor.text = typeof spec.topology === "object" ? topologyText(spec.topology) : JSON.stringify(spec.topology);
    announce("A whole run spec: the rest of it is in the form now");
  }

  take(topology, drawn) {
    this.topology = topology;
    if (drawn) this.imports.show(drawn);
    this.changed(0);
  }

  changed(wait) {
    this.late.changed(wait);
  }

  async check(signal) {
    const spec = this.compose();
    this.button.disabled = spec === null;
    if (!spec) return;
    const report = await post("/v1/topologies:validate", spec, { signal });
    this.form.clearFaults();
    put(this.trouble);
    this.tell(true, `Valid: ${plural(report.tokens.calls_per_step, "call")} per step`);
    putFacts(this.needs, needsOf(report));
    say(this.left, report.checked_at_start.length ? `Checked when the run starts: ${report.checked_at_start.join("; ")}.` : "");
  }

  /** Return the whole run spec; null where a part of it cannot be read, which is said beside it. */
  compose() {
    if (!this.topology) {
      this.tell(false, "The graph above is not valid yet.");
      return null;
    }
    try {
      return this.form.spec(this.topology);
    } catch (error) {
      if (!(error instanceof TextFault)) throw error;
      this.form.refuseExtra(error);
      this.tell(false, "Not valid yet");
      return null;
    }
  }

  refuse(error) {
    this.tell(false, "Not valid yet");
    put(this.needs);
    say(this.left, "");
    const faults = error.faults || [];
    const isOfGraph = ({ path }) => path === "topology" || /^topology[.[]/.test(path);
    const ofGraph = faults.filter(isOfGraph);
    if (ofGraph.length) {
      this.editor.showFaults(ofGraph.map(({ path, message }) => ({ path: path.replace(/^topology\.?/, ""), message })));
    }
    const rest = this.form.showFaults(faults.filter((fault) => !isOfGraph(fault)));
    put(this.trouble, rest.length || !faults.length ? problemPanel(Object.assign(error, { faults: rest })) : null);
  }

  tell(isRight, text) {
    tellVerdict(this.verdict, isRight, text);
  }

  async submit(event) {
    event.preventDefault();
    this.button.disabled = true;
    await this.editor.settled(); // what is submitted is the graph as it stands, not as it stood when last checked
    const spec = this.compose();
    if (!spec) {
      if (!this.topology) this.editor.input.focus();
      return;
    }
    try {
      const run = await this.send(spec);
      if (!run) {
        this.button.disabled = false;
        return;
      }
      announce(`Run ${run.name} is queued`);
      location.hash = `#/runs/${run.id}`;
    } catch (error) {
      this.refuse(error);
      this.button.disabled = false;
      this.button.focus();
    }
  }

  /** Queue the run, with the adapters that it begins with; null where one of these was refused. */
  async send(spec) {
    if (!this.imports.isUsed) return this.post("/v1/runs", spec);
    const wish = await this.imports.bring(spec.name || "run");
    if (!wish) return null;
    try {
      return await this.post("/v1/runs:import", { spec, ...wish });
    } catch (error) {
      const faults = this.imports.showFaults(error.faults || []);
      if (error.faults && error.faults.length && !faults.length) return null;
      error.faults = faults.map(({ path, message }) => ({ path: path.replace(/^spec\.?/, ""), message }));
      throw error;
    }
  }

  close() {
    if (!this.editor) return;
    this.late.close();
    this.editor.close();
    try {
      draft = { text: this.editor.text, spec: this.form.spec(null) };
    } catch {
      draft = null; // settings that cannot be read are not kept
    }
  }
}

function needsOf(report) {
  const { tokens, memory, stages, time } = report;
  return [
    ["Rollouts per step", count(tokens.rollouts_per_step)],
    stages && stages.length > 1 ? ["Grows", `${stages.join(" → ")} nodes`] : null,
    ["Trained numbers", count(report.trainable_parameters)],
    ["Training memory", bytes(memory.training_bytes)],
    ["Base", bytes(memory.base_bytes)],
    time ? ["Time", `${time.text} (${time.counted_for})`] : null,
  ].filter(Boolean);
}

/** Return a topology document as text, a node or an edge a line. */
export function topologyText(topology) {
  const line = (value) => JSON.stringify(value).replaceAll('":', '": ').replaceAll(",", ", ");
  const list = (values) => `[\n${values.map((value) => `  ${line(value)}`).join(",\n")}\n ]`;
  const parts = Object.entries(topology).map(([name, value]) => {
    const isLong = (name === "nodes" || name === "edges") && Array.isArray(value) && value.length;
    return ` ${JSON.stringify(name)}: ${isLong ? list(value) : JSON.stringify(value)}`;
  });
  return `{\n${parts.join(",\n")}\n}`;
}
