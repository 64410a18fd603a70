// What training can still move in a trained graph: the score kernels of its adapters.

import { Chart } from "./chart.js";
import { h } from "./dom.js";
import { number, percent, UNKNOWN } from "./format.js";
import { nodeColor } from "./plot.js";
import { table } from "./table.js";

const MAX_PAIRS = 5;

/** Return a diagnosis, the document of `neuromas diagnose`, as tables and a drawing. */
export function diagnosisTables(found) {
  const { adapters } = found;
  return h("div", { class: "findings" },
    h("p", {}, `${found.questions_with_signal} of ${found.questions} validation questions have both better and worse answers: the others move nothing.`),
    table("Adapters", ["adapter", "#push", "#alignment", "#effective rank", "#condition", "#from linear", "layers to target"], adapters.map(adapterRow)),
    h("p", { class: "note" }, "Push: what a step of rate 1 along the advantages adds to the expected reward, to first order. "
      + "Alignment: which share of what an adapter can move lies along them; by chance one over its messages. "
      + "From linear: how far training went beyond its first order."),
    h("ul", {}, advice(found).map((text) => h("li", {}, text))),
    h("h3", {}, "Where the push comes from"), layerTable(adapters),
    spectrum(adapters), overlap(found.overlap));
}

function adapterRow({ adapter, push, alignment, effective_rank: rank, calls, condition, linearity_gap: gap, targets }) {
  return [adapter, number(push), alignment === null ? UNKNOWN : percent(alignment), `${number(rank, 2)} of ${calls}`,
    number(condition, 2), gap === null ? "unchanged" : number(gap, 2), targets.join(", ") || "no signal"];
}

function advice({ targets, grow_from: best, inert }) {
  return [
    targets.length > 0 && ["All adapters together: ", h("code", {}, `adapter.targets = ${JSON.stringify(targets)}`), " holds nine tenths of the push."],
    best.length > 0 && `Grow from ${best.join(", ")}: the reward can still move them most.`,
    inert.length > 0 && `Inert: ${inert.join(", ")}. Training hardly moves what they say: settled, or stuck. Start anew those that an analysis calls idle.`,
    "These are heuristics: whether what they prefer learns more is to be measured.",
  ].filter(Boolean);
}

function layerTable(adapters) {
  const names = [...new Set(adapters.flatMap(({ suffixes }) => Object.keys(suffixes)))];
  return table("Where the push comes from", ["adapter", ...names.map((name) => `#${name}`)],
    adapters.map(({ adapter, push, suffixes }) => [adapter, ...names.map((name) => (push && name in suffixes ? percent(suffixes[name] / push) : UNKNOWN))]));
}

function spectrum(adapters) {
  const chart = new Chart({ title: "Spectrum of each kernel", note: "eigenvalues as shares of their sum, the largest first", xLabel: "eigenvalue", height: 180, format: "percent" });
  chart.update(adapters.map(({ adapter, eigenvalues }, rank) => {
    const sum = eigenvalues.reduce((total, value) => total + value, 0);
    return { name: adapter, style: "thin", color: nodeColor(rank, adapters.length), points: sum ? eigenvalues.map((value, place) => [place + 1, value / sum]) : [] };
  }));
  return chart.element;
}

function overlap(pairs) {
  if (!pairs.length) return null;
  return [h("h3", {}, "Updates within the span of others"), table("Updates within the span of others", ["update of", "within", "#share"],
    pairs.slice(0, MAX_PAIRS).map(({ of, within, share }) => [of, within, percent(share)]))];
}
