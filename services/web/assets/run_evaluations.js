// What is found out about a run's checkpoints: how many answers are right, what the nodes do, what can still be moved.

import { analysisTables } from "./analysis.js";
import { capabilities, post, submitter } from "./api.js";
import { diagnosisTables } from "./diagnosis.js";
import { announce, h, put } from "./dom.js";
import { ago, percent } from "./format.js";
import { labelled, numberIn } from "./labelled.js";
import { askFor, problemPanel, stateChip } from "./parts.js";
import { table } from "./table.js";

const UNFINISHED = ["queued", "running"];
const MAX_EXAMPLES = 100000;
const KINDS = {
  accuracy: "how many answers are right",
  analysis: "what each node and edge contributes, what nodes say",
  diagnosis: "what training can still move, by adapter and layer",
};
const TABLES = { analysis: analysisTables, diagnosis: diagnosisTables };

/** Whether an evaluation goes on. */
export const isUnfinished = ({ state }) => UNFINISHED.includes(state);

/** The evaluations of a run: accuracies in a table, each analysis and diagnosis in a block that opens. */
export class Evaluations {
  /** `onChange` is told that one was cancelled. */
  constructor(onChange) {
    this.onChange = onChange;
    this.blocks = new Map(); // id -> {version, element}, so that what is open stays open
    this.trouble = h("div", {});
    this.place = h("div", {});
    this.element = h("div", {}, this.trouble, this.place);
  }

  /** Show evaluations, the newest first. */
  show(evaluations) {
    const accuracies = evaluations.filter(({ kind }) => kind === "accuracy");
    const others = evaluations.filter(({ kind }) => kind !== "accuracy");
    put(this.place,
      accuracies.length > 0 && [h("h3", {}, "Evaluations"), this.table(accuracies)],
      others.length > 0 && [h("h3", {}, "Analyses and diagnoses"), others.map((one) => this.block(one))]);
  }

  table(evaluations) {
    return table("Evaluations", ["asked", "state", "#examples", "#greedy", "#sampled", "#untrained"], evaluations.map((one) => {
      const accuracy = (one.result && one.result.accuracy) || {};
      return [askedAt(one), this.state(one), String(one.examples ?? (one.result && one.result.examples) ?? "as its run"),
        figure(accuracy.greedy), figure(accuracy.sampled), figure(accuracy.untrained)];
    }), { stacked: true });
  }

  block(one) {
    const known = this.blocks.get(one.id);
    if (known && known.version === one.version) return known.element;
    const word = one.kind.charAt(0).toUpperCase() + one.kind.slice(1);
    const title = [h("strong", {}, word), " ", askedAt(one)];
    const element = one.result
      ? h("details", { class: "evaluation" }, h("summary", {}, title), TABLES[one.kind](one.result))
      : h("div", { class: "evaluation" }, h("p", {}, title, " ", this.state(one)));
    this.blocks.set(one.id, { version: one.version, element });
    return element;
  }

  state(one) {
    return [stateChip(one.state), one.error && h("small", { class: "bad" }, one.error.message),
      isUnfinished(one) && h("button", { type: "button", class: "small", "data-what": `cancel ${one.id}`,
        "aria-label": `Cancel the ${one.kind} of ${one.checkpoint}`, onclick: () => this.cancel(one) }, "Cancel")];
  }

  async cancel({ id, kind }) {
    put(this.trouble);
    try {
      await post(`/v1/evaluations/${id}/cancel`, {});
      announce(`The ${kind} is cancelled`);
    } catch (error) {
      put(this.trouble, problemPanel(error));
    }
    this.onChange();
  }
}

/** Ask what is to be found out about a checkpoint, and queue it; `onQueued` is told when it is. */
export async function evaluateDialog(checkpoint, onQueued) {
  const { baselines } = await capabilities().catch(() => ({ baselines: [] }));
  const kind = h("select", { name: "kind" }, Object.entries(KINDS).map(([name, what]) => h("option", { value: name }, `${name}: ${what}`)));
  const examples = h("input", { type: "number", name: "examples", min: 1, max: MAX_EXAMPLES, step: 1, value: 256 });
  const sampled = h("input", { type: "checkbox", name: "sampled", checked: true });
  const compared = baselines.map((name) => h("input", { type: "checkbox", value: name }));
  const calls = h("input", { type: "number", name: "calls", min: 1, step: 1, placeholder: "32" });
  const ofKind = {
    accuracy: [labelled("Sampled answers too", sampled, "beside greedy ones"),
      ...compared.map((box) => labelled(`Compare: ${box.value}`, box, box.value === "untrained" ? "the same graph on the bare base" : ""))],
    analysis: [],
    diagnosis: [labelled("Messages of each adapter", calls, "Its kernel has a row and a column for each.")],
  };
  const usual = { accuracy: 256, analysis: 256, diagnosis: 16 };
  kind.addEventListener("change", () => {
    examples.value = usual[kind.value];
    for (const [name, fields] of Object.entries(ofKind)) for (const field of fields) field.hidden = name !== kind.value;
  });
  const wishes = {
    accuracy: () => ({ sampled: sampled.checked, baselines: compared.filter((box) => box.checked).map((box) => box.value) }),
    analysis: () => ({}),
    diagnosis: () => ({ calls: numberIn(calls) }),
  };
  for (const field of ofKind.diagnosis) field.hidden = true;
  const submit = submitter();
  askFor({
    title: `Evaluate step ${checkpoint.step}`,
    action: "Evaluate",
    fields: [labelled("What to find out", kind), labelled("Held-out examples", examples, "Empty = as many as usual."), ...Object.values(ofKind).flat()],
    submit: async () => {
      await submit("/v1/evaluations", { checkpoint: checkpoint.id, kind: kind.value, examples: numberIn(examples), ...wishes[kind.value]() });
      announce(`${kind.value} queued`);
      onQueued();
    },
  });
}

function askedAt({ created, checkpoint, level }) {
  return h("span", {}, ago(created), h("small", {}, `${checkpoint}${level ? `, level ${level}` : ""}`));
}

function figure(score) {
  if (!score) return percent(null);
  return h("span", {}, percent(score.value), score.low !== undefined && h("small", {}, `${percent(score.low)} to ${percent(score.high)}`));
}
