// A run's checkpoints: to deploy, evaluate, grow and export; and what evaluations found.

import { capabilities, download, get, post, remove, submitter } from "./api.js";
import { announce, h, put } from "./dom.js";
import { ago, moment, number, percent } from "./format.js";
import { labelled, numberIn } from "./labelled.js";
import { askFor, card, confirmed, emptyPlace, problemPanel, stateChip, table } from "./parts.js";
import { ENDED } from "./stream.js";

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
    this.evaluations = h("div", {});
    this.element = card("Checkpoints", { note: "States of the run that can be served, measured, grown and exported." },
      this.trouble, this.list, this.evaluations);
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
      if (evaluations.data.some((one) => ["queued", "running"].includes(one.state))) this.expect();
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
    put(this.evaluations, evaluations.length ? [h("h3", {}, "Evaluations"), evaluationTable(evaluations)] : null);
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
      button("Evaluate", () => this.evaluate(checkpoint)),
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

  async evaluate(checkpoint) {
    const { baselines } = await capabilities().catch(() => ({ baselines: [] }));
    const examples = h("input", { type: "number", name: "examples", min: 1, max: 100000, step: 1, value: 256 });
    const sampled = h("input", { type: "checkbox", checked: true });
    const compared = baselines.map((name) => h("input", { type: "checkbox", value: name }));
    const submit = submitter();
    askFor({
      title: `Evaluate step ${checkpoint.step}`,
      action: "Evaluate",
      fields: [labelled("Held-out examples", examples), labelled("Sampled answers too", sampled, "beside greedy ones"),
        ...compared.map((box) => labelled(`Compare: ${box.value}`, box, box.value === "untrained" ? "the same graph on the bare base" : ""))],
      submit: async () => {
        await submit("/v1/evaluations", { checkpoint: checkpoint.id, examples: numberIn(examples), sampled: sampled.checked,
          baselines: compared.filter((box) => box.checked).map((box) => box.value) });
        announce("Evaluation queued");
        this.read();
      },
    });
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

function evaluationTable(evaluations) {
  return table("Evaluations", ["asked", "state", "#examples", "#greedy", "#sampled", "#untrained"], evaluations.map((one) => {
    const accuracy = (one.result && one.result.accuracy) || {};
    return [h("span", {}, ago(one.created), h("small", {}, `${one.checkpoint}${one.level ? `, level ${one.level}` : ""}`)),
      [stateChip(one.state), one.error && h("small", { class: "bad" }, one.error.message)],
      String(one.examples ?? (one.result && one.result.examples) ?? "as its run"), figure(accuracy.greedy), figure(accuracy.sampled),
      figure(accuracy.untrained)];
  }), { stacked: true });
}

function figure(score) {
  if (!score) return percent(null);
  return h("span", {}, percent(score.value), score.low !== undefined && h("small", {}, `${number(100 * score.low, 3)} – ${number(100 * score.high, 3)}`));
}
