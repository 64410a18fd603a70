// A run's checkpoints: to deploy, evaluate, grow and export; and what evaluations found.

import { download, get, post, remove } from "./api.js";
import { announce, h, put } from "./dom.js";
import { ago, moment, percent } from "./format.js";
import { labelled, numberIn } from "./labelled.js";
import { askFor, card, confirmed, emptyPlace, problemPanel } from "./parts.js";
import { evaluateDialog, Evaluations, isUnfinished } from "./run_evaluations.js";
import { ENDED } from "./stream.js";
import { table } from "./table.js";

const LOOK_MS = 1500;
const MAX_NAME = 63;

/** The panel of a run's checkpoints and evaluations; `expect` looks again soon. */
export class CheckpointPanel {
  constructor(page) {
    this.page = page;
    this.timer = 0;
    this.checkpoints = [];
    this.shown = "";
    this.trouble = h("div", {});
    this.list = h("div", {}, h("p", { class: "note" }, "loading …"));
    this.evaluations = new Evaluations(() => this.read());
    this.element = card("Checkpoints", { note: "States of the run that can be served, measured, grown and exported." },
      this.trouble, this.list, this.evaluations.element);
    this.read();
  }

  /** Look again where the run's record has changed. */
  show() {
    this.expect();
  }

  expect() {
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.read(); }, LOOK_MS);
  }

  async read() {
    const { run, path } = this.page;
    try {
      const [checkpoints, evaluations] = await Promise.all([
        get(`${path}/checkpoints?limit=100`), get(`/v1/evaluations?run=${run.id}&limit=20`)]);
      this.checkpoints = checkpoints.data;
      this.render(evaluations.data);
      if (evaluations.data.some(isUnfinished)) this.expect();
    } catch (error) {
      if (!this.shown) put(this.list, problemPanel(error, () => this.read()));
    }
  }

  render(evaluations) {
    const wanted = JSON.stringify([this.checkpoints, evaluations]);
    if (wanted === this.shown) return;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.what : null;
    this.shown = wanted;
    put(this.list, this.checkpoints.length ? this.table() : this.emptyPlace());
    this.evaluations.show(evaluations);
    if (focused) this.element.querySelector(`[data-what="${CSS.escape(focused)}"]`)?.focus();
  }

  emptyPlace() {
    const { state, spec } = this.page.run;
    if (ENDED.includes(state)) return emptyPlace("No checkpoints", h("p", {}, "The run ended before it wrote one."));
    const { every } = spec.checkpoint;
    return emptyPlace("No checkpoints yet", h("p", {}, every ? `The run writes one every ${every} steps and at the end of each stage.` : "The run writes one at the end of each stage."));
  }

  table() {
    return table("Checkpoints", ["checkpoint", "#nodes", "#accuracy", "written", "do"], this.checkpoints.map((one) => [
      [h("strong", {}, `${one.stage_name || `stage ${one.stage + 1}`}, step ${one.step}`),
        one.aliases.map((alias) => h("span", { class: "alias" }, alias)), h("small", {}, one.id)],
      String(one.nodes), percent(one.accuracy), h("span", { title: moment(one.created) }, ago(one.created)),
      h("div", { class: "tools" }, this.actions(one))]), { stacked: true });
  }

  actions(checkpoint) {
    const { run } = this.page;
    const { id } = checkpoint;
    const about = `checkpoint of step ${checkpoint.step}`;
    const button = (verb, work, kind = "small") => h("button", { type: "button", class: kind, "data-what": `${verb} ${id}`,
      "aria-label": `${verb} ${about}`, onclick: work }, verb);
    return [
      button("Deploy", () => deployDialog(checkpoint, run)),
      button("Evaluate", () => evaluateDialog(checkpoint, () => this.read())),
      h("a", { class: "button small", href: `#/runs/${run.id}/grow?checkpoint=${id}`, "aria-label": `Grow ${about}` }, "Grow"),
      button("Export", (event) => this.export(checkpoint, event.currentTarget)),
      ENDED.includes(run.state) && button("Delete", () => this.delete(checkpoint), "small danger"),
    ];
  }

  async export(checkpoint, button) {
    button.disabled = true;
    put(this.trouble);
    announce("Making the archive");
    try {
      await download(`/v1/checkpoints/${checkpoint.id}/export?format=tar`, `${checkpoint.id}.tar`);
    } catch (error) {
      put(this.trouble, problemPanel(error));
    }
    button.disabled = false;
  }

  async delete(checkpoint) {
    const isSure = await confirmed({ title: "Delete this checkpoint?", action: "Delete it",
      text: `${checkpoint.stage_name}, step ${checkpoint.step}: its weights are removed for good. Runs grown from it keep theirs.` });
    if (!isSure) return;
    try {
      await remove(`/v1/checkpoints/${checkpoint.id}`);
      announce("Checkpoint deleted");
    } catch (error) {
      put(this.trouble, problemPanel(error));
    }
    this.read();
  }

  close() {
    clearTimeout(this.timer);
    this.timer = 1; // no more looks
  }
}

/** Ask for a name and deploy a checkpoint under it. */
export function deployDialog(checkpoint, run) {
  const name = h("input", { type: "text", name: "name", value: run.name.slice(0, MAX_NAME), autocomplete: "off", spellcheck: "false", required: true });
  const replicas = h("input", { type: "number", name: "replicas", min: 1, step: 1, placeholder: "1" });
  askFor({
    title: `Deploy step ${checkpoint.step} of ${run.name}`,
    action: "Deploy",
    fields: [labelled("Name", name, "What clients ask for as the model. Lower case letters, digits, dots and dashes."),
      labelled("Replicas", replicas, "Copies that answer; empty = the service's usual.")],
    submit: async () => {
      await post("/v1/endpoints", { name: name.value.trim(), checkpoint: checkpoint.id, replicas: numberIn(replicas) });
      location.hash = `#/endpoints/${encodeURIComponent(name.value.trim())}`;
    },
  });
}
