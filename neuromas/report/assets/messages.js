// The text on every edge of one pass through a graph, as a list: all of it, in order, for every reader.

import { h, put, say } from "./dom.js";
import { nodeColor } from "./plot.js";

/** The list of messages of one rollout or answer. */
export class Messages {
  /**
   * `onSelect(node)` is told of a node that is chosen in the list. `how` says how its rollouts came to be.
   * `promptOf(rollout, message)` returns a function that promises what the node read; null where that is not known.
   */
  constructor(onSelect, { how = "sampled in training", promptOf = () => null } = {}) {
    Object.assign(this, { onSelect, how, promptOf, rollout: null });
    this.prompts = new Map();
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
    if (rollout !== this.rollout) this.prompts.clear();
    this.rollout = rollout;
    const stage = rollout.stage ? `stage ${rollout.stage + 1}, ` : "";
    say(this.title, `${stage}step ${rollout.step}, ${this.how}`);
    const isRight = rollout.reward >= 1;
    const worth = rollout.failure || (isRight ? "right" : rollout.reward > 0 ? "partly right" : "wrong");
    say(this.verdict, rollout.replayed ? `${worth}; ${rollout.replayed} asked anew` : worth);
    this.verdict.className = isRight ? "verdict right" : "verdict wrong";
    say(this.question, rollout.question);
    put(this.answer, "Answer ", h("code", {}, rollout.answer || "(empty)"), " expected ", h("code", {}, rollout.expected));
    this.showMessages(topology, rollout.messages.map((one) => ({ ...one, content: one.text })), selected);
  }

  /** Show messages, each `{node, content, finish_reason, error}`. */
  showMessages(topology, messages, selected) {
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    put(this.list, messageItems(topology, messages, selected, this.onSelect, (message) => this.promptFold(message)));
    if (focused?.dataset.node) this.list.querySelector(`[data-node="${CSS.escape(focused.dataset.node)}"]`)?.focus();
    else focused?.focus();
  }

  /** Return the block of what a node read; of the same rollout always the same one, so that it stays open. */
  promptFold(message) {
    if (!this.prompts.has(message.node)) {
      const read = this.promptOf(this.rollout, message);
      this.prompts.set(message.node, read && promptFold(message.node, read));
    }
    return this.prompts.get(message.node);
  }
}

/** Return a rollout of a graph with its list of messages, in which nodes can be chosen. */
export function rolloutCard(topology, rollout, options) {
  let selected = null;
  const messages = new Messages((node) => {
    selected = selected === node ? null : node;
    messages.show(topology, rollout, selected);
  }, options);
  messages.show(topology, rollout, selected);
  return messages.element;
}

/** Return a folded block of what a node read; it is read when the block is opened. */
function promptFold(node, read) {
  const text = h("pre", { tabindex: 0 }, "…");
  let isRead = false;
  const fold = h("details", { class: "prompt", ontoggle: async () => {
    if (!fold.open || isRead) return;
    try {
      say(text, await read());
      isRead = true;
    } catch (error) {
      say(text, error.message);
    }
  } }, h("summary", {}, `What ${node} read`), text);
  return fold;
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
