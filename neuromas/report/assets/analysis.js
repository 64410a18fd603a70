// What a trained graph has learned: what each message and edge is worth, and what the nodes say.

import { h } from "./dom.js";
import { chance, number, percent, points, UNKNOWN } from "./format.js";
import { table } from "./table.js";

const CHANGES = { cut: "its message cut off", shuffled: "its message of another question", untrained: "its message by the bare base" };
const MAX_SAID = 3;
const MAX_ALIKE = 5;

/** Return an analysis, the document of `neuromas analyze`, as tables. */
export function analysisTables(found) {
  const idle = found.nodes.filter((node) => node.is_idle).map(({ node }) => node);
  return h("div", { class: "findings" },
    h("p", {}, `Greedy answers to ${found.examples} test questions with one thing changed, beside the graph as it is (${percent(found.accuracy)} right).`),
    table("What each message is worth", ["node or edge", "changed", "#accuracy", "#points", "#95 % interval", "#p"], changesOf(found).map(worth)),
    idle.length > 0 && h("p", {}, `Idle: ${idle.join(", ")}. No change of what they say costs accuracy.`),
    h("h3", {}, "What the nodes say"),
    table("What the nodes say", ["node", "says", "#correct", "#different", "#bits", "#bits of the answer", "#tokens", "#base's perplexity"], found.nodes.map(said)),
    alike(found.similarity));
}

function changesOf({ nodes, edges, exchanged }) {
  const ofNodes = nodes.flatMap(({ node, changes }) => Object.entries(changes).map(([kind, entry]) => [node, CHANGES[kind] || kind, entry]));
  return [...ofNodes, ...edges.map((entry) => [entry.change, "the reader gets nothing", entry]),
    ...(exchanged ? [["all", `adapters change places: ${exchanged.change}`, exchanged]] : [])];
}

function worth([where, changed, { accuracy, effect }]) {
  return [where, changed, percent(accuracy), points(effect.gain), `${points(effect.low)} to ${points(effect.high)}`, chance(effect.p_value)];
}

function said({ node, says, correct, messages, perplexity }) {
  if (!messages) return [node, "nothing: every rollout failed before it", percent(correct), UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN];
  const labels = says.slice(0, MAX_SAID).map(({ label, share }) => `${label} ${percent(share)}`).join(", ");
  return [node, labels || "nothing the task can read", percent(correct), String(messages.distinct), number(messages.entropy_bits, 2),
    number(messages.answer_bits, 2), number(messages.tokens, 2), number(perplexity, 3)];
}

function alike(pairs) {
  if (!Array.isArray(pairs) || !pairs.length) return null;
  return [h("h3", {}, "Most alike adapters"), table("Most alike adapters", ["adapters", "#cosine of their updates"],
    pairs.slice(0, MAX_ALIKE).map(({ adapters, cosine }) => [adapters.join(", "), number(cosine, 2)]))];
}
