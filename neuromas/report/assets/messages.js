// The text on every edge of one pass through a graph, as a list: all of it, in order, for every reader.

import { h, put, say } from "./dom.js";
import { nodeColor } from "./plot.js";

/** The list of messages of one rollout or answer. */
export class Messages {
  /** `onSelect(node)` is told of a node that is chosen in the list; `how` says how its rollouts came to be. */
  constructor(onSelect, how = "sampled in training") {
    Object.assign(this, { onSelect, how });
    this.verdict = h("span", { class: "verdict" });
    this.title = h("span", {});
    this.question = h("p", { class: "question" });
    this.list = h("ol", { class: "messages" });
    this.answer = h("p", { class: "expected" });
    this.element = h("div", { class: "rollout", hidden: true },
      h("div", { class: "head" }, this.title, this.verdict), this.question, this.list, this.answer);
  }

  /** Show a rollout of a graph; null shows nothing. */
  show(topology, rollout, selected) {
    this.element.hidden = !rollout;
    if (!rollout) return;
    const stage = rollout.stage ? `stage ${rollout.stage + 1}, ` : "";
    say(this.title, `${stage}step ${rollout.step}, ${this.how}`);
    const isRight = rollout.reward >= 1;
    say(this.verdict, rollout.failure || (isRight ? "right" : rollout.reward > 0 ? "partly right" : "wrong"));
    this.verdict.className = isRight ? "verdict right" : "verdict wrong";
    say(this.question, rollout.question);
    put(this.answer, "Answer ", h("code", {}, rollout.answer || "(empty)"), " expected ", h("code", {}, rollout.expected));
    this.showMessages(topology, rollout.messages.map((one) => ({ ...one, content: one.text })), selected);
  }

  /** Show messages, each `{node, content, finish_reason, error}`. */
  showMessages(topology, messages, selected) {
    const focused = this.list.contains(document.activeElement) && document.activeElement.dataset.node;
    put(this.list, messageItems(topology, messages, selected, this.onSelect));
    if (focused) this.list.querySelector(`[data-node="${CSS.escape(focused)}"]`)?.focus();
  }
}

/** Return a rollout of a graph with its list of messages, in which nodes can be chosen. */
export function rolloutCard(topology, rollout, how) {
  let selected = null;
  const messages = new Messages((node) => {
    selected = selected === node ? null : node;
    messages.show(topology, rollout, selected);
  }, how);
  messages.show(topology, rollout, selected);
  return messages.element;
}

/** Return a list item for each message: who sent it, along which edges, and the text; null is an unknown graph. `toolOf(message)`: what stands behind it. */
export function messageItems(topology, messages, selected, onSelect, toolOf = () => null) {
  const { nodes = [], edges = [] } = topology || {};
  const readers = new Map(nodes.map(({ id }) => [id, []]));
  for (const [source, target] of edges) readers.get(source)?.push(target);
  return messages.map((message, rank) => {
    const targets = readers.get(message.node) || [];
    const isTouched = selected === message.node || targets.includes(selected);
    const where = targets.length ? `to ${targets.join(", ")}` : nodes.length ? "the answer" : "";
    return h("li", { class: isTouched ? "touched" : "" },
      h("button", { type: "button", class: "chip", "data-node": message.node, "aria-pressed": String(selected === message.node),
        vars: { "--ink-of": nodeColor(rank, messages.length) }, onclick: () => onSelect(message.node) }, message.node),
      h("span", { class: "to" }, where),
      h("code", {}, message.content || "(empty)"),
      toolOf(message),
      message.finish_reason === "length" && h("span", { class: "cut" }, "cut off at its budget"),
      message.finish_reason === "error" && h("span", { class: "cut" }, message.error || "failed"));
  });
}
