// The page that grows a run: a plan of edits on a checkpoint's graph, and what the new run does differently.

import { capabilities, get, submitter } from "./api.js";
import { announce, h, put } from "./dom.js";
import { Fields, resolve, variants } from "./fields.js";
import { percent, plural } from "./format.js";
import { drawGraph } from "./graph.js";
import { GrownGraph } from "./grown_graph.js";
import { labelled, numberIn } from "./labelled.js";
import { card, pageHead, problemPanel, putPage } from "./parts.js";
import { ZoomPane } from "./zoom.js";

const TRAINING = ["steps", "learning_rate"];
const INHERITANCE = ["new", "noise", "old", "freeze_steps", "pull_weight", "pull_by", "pull_to", "pull_selective"];
const EDIT_WORDS = {
  append: "append layers after the output", before_output: "a layer before the output", widen: "widen a layer",
  deepen: "a new layer inside", graft: "graft into a larger graph", connect: "add edges", prune: "remove nodes",
};

/** Return the page that grows a run. */
export function growPage({ id, query }) {
  const page = new GrowPage(id, query.get("checkpoint") || "latest");
  page.open();
  return { element: page.element, title: "Grow", close: () => page.close() };
}

class GrowPage {
  constructor(id, checkpoint) {
    this.id = id;
    this.wanted = checkpoint;
    this.edits = [];
    this.post = submitter();
    this.element = h("div", {}, pageHead("Grow", id), h("p", { class: "note" }, "loading …"));
  }

  async open() {
    try {
      const path = `/v1/runs/${encodeURIComponent(this.id)}`;
      const [offer, run, checkpoints, events] = await Promise.all([
        capabilities(), get(path), get(`${path}/checkpoints?limit=100`), get(`${path}/events?limit=1000`)]);
      this.run = run;
      this.checkpoints = checkpoints.data;
      this.topologies = new Map(events.data.filter((one) => one.type === "stage_started").map((one) => [one.stage, one.topology]));
      this.defs = offer.run_schema.$defs;
      this.kinds = variants(resolve(resolve({ $ref: "/PlanSpec" }, this.defs).properties.edits.items, this.defs), this.defs);
      this.tasks = variants(offer.run_schema.properties.task, this.defs).byTag;
      this.build();
    } catch (error) {
      putPage(this.element, pageHead("Grow", this.id), problemPanel(error, () => this.open()));
    }
  }

  build() {
    const { run } = this;
    this.grown = new GrownGraph({ path: `/v1/runs/${encodeURIComponent(run.id)}`, compose: () => this.body,
      onFaults: (error) => this.judge(error) });
    this.checkpoint = h("select", { onchange: () => { this.draw(); this.grown.changed(0); } }, this.checkpoints.map((one) => h("option",
      { value: one.id, selected: one.id === this.wanted || one.aliases.includes(this.wanted) },
      `${one.stage_name}, step ${one.step}: ${plural(one.nodes, "node")}, ${percent(one.accuracy)} right${one.aliases.length ? ` (${one.aliases.join(", ")})` : ""}`)));
    this.drawing = new ZoomPane("The checkpoint's graph");
    this.list = h("div", { class: "edits" });
    this.inherit = new Fields(resolve({ $ref: "/InheritanceSpec" }, this.defs), this.defs, { base: "plan.inherit.", only: INHERITANCE,
      labels: { new: "New nodes", old: "Old nodes" } });
    this.training = new Fields(resolve({ $ref: "/TrainingSpec" }, this.defs), this.defs, { base: "spec.training.", only: TRAINING,
      given: run.spec.training, usual: run.spec.training });
    this.name = h("input", { type: "text", placeholder: `${run.name}-grown`, autocomplete: "off", spellcheck: "false" });
    this.nameField = labelled("Name of the new run", this.name, "Empty = the parent's with -grown.");
    this.level = h("input", { type: "number", min: 1, step: 1 });
    this.levelField = labelled("Task level", this.level, "Empty = the task's target.");
    this.target = this.taskTarget();
    this.trouble = h("div", {});
    this.button = h("button", { type: "submit", class: "main", disabled: !this.checkpoints.length }, "Grow");
    const part = (title, ...content) => h("fieldset", {}, h("legend", {}, title), content);
    putPage(this.element, pageHead("Grow", run.name, h("p", { class: "about" },
      "Growing makes a new run. Its nodes begin with what the checkpoint's have learned; ", h("a", { href: `#/runs/${run.id}` }, "the run itself"), " stays as it is.")),
    card("From", {}, this.checkpoints.length ? labelled("Checkpoint", this.checkpoint)
      : h("p", { class: "note" }, "This run has no checkpoint yet: wait for its first, or for its end."), this.drawing.element),
    card("Plan", {}, h("form", { novalidate: true, oninput: () => this.changed(), onsubmit: (event) => this.submit(event) },
      this.list, h("button", { type: "button", class: "small", onclick: () => this.addEdit("widen") }, "Another edit"), this.grown.element,
      part("New nodes and old ones", this.inherit.element),
      part("The new run", h("div", { class: "fields" }, this.nameField, this.levelField, this.target && this.target.element, this.training.element)),
      this.trouble, this.button)));
    this.addEdit("append");
    this.draw();
  }

  /** Return the field of the task's target level: a grown graph is often to learn a harder task. */
  taskTarget() {
    const { task } = this.run.spec;
    const schema = this.tasks.get(task.type);
    const target = schema && schema["x-target"];
    return target ? new Fields(schema, this.defs, { base: "spec.task.", only: [target], given: task, usual: task }) : null;
  }

  addEdit(kind) {
    const edit = { kind, fields: null };
    const place = h("div", { class: "part" });
    const choice = h("select", { onchange: () => show(choice.value) }, [...this.kinds.byTag.keys()].map((name) =>
      h("option", { value: name, selected: name === kind }, EDIT_WORDS[name] || name)));
    const note = h("p", { class: "note" });
    edit.fault = h("p", { class: "fault", role: "alert" });
    const show = (name) => {
      const schema = this.kinds.byTag.get(name);
      edit.kind = name;
      edit.fields = new Fields(schema, this.defs, { skip: ["edit"] });
      note.textContent = schema.description.replaceAll("``", "");
      put(place, edit.fields.element);
    };
    edit.element = h("fieldset", {}, h("legend", {}, `Edit ${this.edits.length + 1}`), note, h("div", { class: "fields" }, labelled("Change", choice), place), edit.fault,
      this.edits.length > 0 && h("button", { type: "button", class: "small", onclick: () => this.dropEdit(edit) }, "Without this edit"));
    show(kind);
    this.edits.push(edit);
    this.list.append(edit.element);
    this.changed(0);
  }

  dropEdit(edit) {
    this.edits.splice(this.edits.indexOf(edit), 1);
    edit.element.remove();
    this.edits.forEach((one, place) => put(one.element.querySelector("legend"), `Edit ${place + 1}`));
    this.changed(0);
  }

  changed(wait) {
    if (this.checkpoints.length) this.grown.changed(wait);
  }

  /** Say beside the fields what the server found in the plan as it stands; other trouble waits until it is submitted. */
  judge(error) {
    this.clearFaults();
    if (error && error.faults && error.faults.length) this.refuse(error);
  }

  draw() {
    const chosen = this.checkpoints.find((one) => one.id === this.checkpoint.value);
    const topology = (chosen && this.topologies.get(chosen.stage)) || this.run.spec.topology;
    this.drawing.show(drawGraph(topology, { label: `graph of ${topology.nodes.length} nodes` }));
  }

  get body() {
    const { tag } = this.kinds;
    const training = this.training.value;
    const target = this.target ? this.target.value : {};
    const task = Object.keys(target).length ? { task: { ...target, type: this.run.spec.task.type } } : {};
    return {
      checkpoint: this.checkpoint.value,
      plan: { edits: this.edits.map(({ kind, fields }) => ({ [tag]: kind, ...fields.value })), inherit: this.inherit.value },
      name: this.name.value.trim() || null,
      level: numberIn(this.level),
      spec: { ...(Object.keys(training).length ? { training } : {}), ...task },
    };
  }

  async submit(event) {
    event.preventDefault();
    this.grown.close();
    this.button.disabled = true;
    this.clearFaults();
    try {
      const run = await this.post(`/v1/runs/${this.run.id}/grow`, this.body);
      announce(`Run ${run.name} is queued`);
      location.hash = `#/runs/${run.id}`;
    } catch (error) {
      this.refuse(error);
    }
    this.button.disabled = false;
  }

  refuse(error) {
    const rest = (error.faults || []).filter(({ path, message }) => !this.setFault(path, message));
    const isAllPlaced = error.faults && error.faults.length && !rest.length;
    put(this.trouble, isAllPlaced ? h("p", { class: "verdict-line wrong", role: "alert" }, "The plan is not valid; what is wrong stands beside it.")
      : problemPanel(Object.assign(error, { faults: rest })));
  }

  setFault(path, message) {
    if (path === "name" || path === "level") {
      (path === "name" ? this.nameField : this.levelField).setFault(message);
      return true;
    }
    // A plan that does not fit the graph is told as one fault of the plan, which names the edit.
    const [, unfit, reason] = (path === "plan" && /^edits\[(\d+)\]: (?:\w+: )?([^]*)$/.exec(message)) || [];
    if (unfit !== undefined && this.edits[unfit]) {
      this.edits[unfit].fault.textContent = reason;
      return true;
    }
    const [, place, rest] = /^plan\.edits\[(\d+)\](?:\.[a-z_]+(?=\.))?\.?(.*)$/.exec(path) || [];
    if (place !== undefined) return Boolean(this.edits[place]) && this.edits[place].fields.setFault(rest, message);
    return [this.inherit, this.training, this.target].some((group) => group && group.setFault(path, message));
  }

  clearFaults() {
    put(this.trouble);
    this.nameField.setFault("");
    this.levelField.setFault("");
    for (const edit of this.edits) edit.fault.textContent = "";
    for (const group of [this.inherit, this.training, this.target, ...this.edits.map((edit) => edit.fields)]) if (group) group.clearFaults();
  }

  close() {
    if (this.grown) this.grown.close();
  }
}
