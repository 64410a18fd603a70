// The same few held-out questions, as a run answered them while it went on: a row each, a column per time.

import { h, put } from "./dom.js";
import { rolloutCard } from "./messages.js";

const MAX_TIMES = 8;

/** A table of answers; each opens to what every node said. */
export class Questions {
  /** `topologyOf(stage)`: the graph that a stage trained, null where it is not known. `promptOf`: see `Messages`. */
  constructor(topologyOf, promptOf) {
    Object.assign(this, { topologyOf, promptOf });
    this.opened = "";
    this.table = h("table", { class: "answers-over-time" });
    this.messages = h("div", { "aria-live": "polite" });
    this.element = h("div", {}, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Answers over time" }, this.table), this.messages);
  }

  /** Show entries, each `{stage, step, example, question, answer, expected, reward, messages}`; of the same the last. */
  show(entries) {
    const cells = new Map(entries.map((entry) => [`${timeOf(entry)} ${entry.example}`, entry]));
    const questions = new Map(entries.map((entry) => [entry.example, entry]));
    const times = thinned([...new Map(entries.map((entry) => [timeOf(entry), entry])).values()]
      .sort((a, b) => a.stage - b.stage || a.step - b.step));
    const hasStages = times.some(({ stage }) => stage);
    const title = ({ stage, step }) => (hasStages ? `stage ${stage + 1}, step ${step}` : `step ${step}`);
    const focused = this.table.contains(document.activeElement) && document.activeElement.dataset.cell;
    put(this.table, h("caption", { class: "unseen" }, "Answers over time"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "question"), h("th", { scope: "col" }, "expected"),
        times.map((time) => h("th", { scope: "col" }, title(time))))),
      h("tbody", {}, [...questions.values()].map((question) => h("tr", {},
        h("th", { scope: "row" }, h("div", { class: "asked" }, question.question)), h("td", {}, h("code", {}, question.expected)),
        times.map((time) => h("td", {}, this.cell(cells.get(`${timeOf(time)} ${question.example}`), title(time))))))));
    if (focused) this.table.querySelector(`[data-cell="${CSS.escape(focused)}"]`)?.focus();
  }

  cell(entry, when) {
    if (!entry) return "–";
    const word = entry.failure ? "failed" : entry.reward >= 1 ? "right" : entry.reward > 0 ? "partly right" : "wrong";
    const id = `${timeOf(entry)} ${entry.example}`;
    return h("button", { type: "button", class: `answer-cell ${entry.reward >= 1 ? "right" : "wrong"}`, "data-cell": id,
      "aria-pressed": String(this.opened === id), title: `${when}: show what every node said`, onclick: () => this.open(id, entry) },
    entry.answer || "(empty)", h("small", {}, word));
  }

  open(id, entry) {
    this.opened = this.opened === id ? "" : id;
    for (const button of this.table.querySelectorAll("[data-cell]")) button.setAttribute("aria-pressed", String(button.dataset.cell === this.opened));
    put(this.messages, this.opened && rolloutCard(this.topologyOf(entry.stage), entry, { how: "asked greedily", promptOf: this.promptOf }));
  }
}

const timeOf = ({ stage, step }) => `${stage}/${step}`;

/** Return at most so many times: the first, the last, and others evenly between. */
function thinned(times) {
  if (times.length <= MAX_TIMES) return times;
  return Array.from({ length: MAX_TIMES }, (_, place) => times[Math.round((place * (times.length - 1)) / (MAX_TIMES - 1))]);
}
