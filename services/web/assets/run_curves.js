// How a run learns: the reward with held-out accuracy, and what each node does over time.

import { saveText } from "./api.js";
import { Chart, nodeColor } from "./chart.js";
import { h, put } from "./dom.js";
import { percent } from "./format.js";
import { card } from "./parts.js";

const REWARD = "rollout/reward_mean";
const MAX_NODES = 16;
// Metric, heading, and how to read it.
const PER_NODE = [
  ["train/entropy", "Entropy", "nats per token; falls as a node becomes sure"],
  ["train/kl", "KL to the base", "nats per token; how far a node has moved"],
  ["rollout/length_mean", "Message length", "tokens"],
  ["train/grad_norm", "Gradient norm", "before clipping; near 0: not learning"],
];

/** The panel of curves; `draw` shows what its history holds by now. */
export class CurvePanel {
  constructor(history, spec) {
    this.history = history;
    this.hasKl = spec.training.kl_weight > 0;
    this.reward = new Chart({ title: "Reward", note: "of each step, and held-out accuracy", yRange: [0, 1.05], height: 280,
      format: (value) => percent(value) });
    this.charts = new Map();
    this.grid = h("div", { class: "chart-grid" });
    this.names = h("ul", { class: "legend" });
    for (const [metric, title, note] of PER_NODE) {
      const chart = new Chart({ title, note, legend: false, height: 200 });
      this.charts.set(metric, chart);
      this.grid.append(chart.element);
    }
    this.charts.get("train/kl").element.hidden = !this.hasKl;
    this.noKl = h("p", { class: "hint", hidden: this.hasKl }, "The KL to the base is measured where the spec has training.kl_weight above 0.");
    this.element = card("Learning", { tools: h("button", { type: "button", class: "small",
      onclick: () => saveText(metricsCsv(history.steps), `${spec.name}-metrics.csv`) }, "Metrics as CSV") }, this.reward.element, h("h3", {}, "Node by node"), this.names, this.grid, this.noKl);
  }

  draw() {
    const { history } = this;
    const marks = history.marks();
    this.reward.update(rewardSeries(history), marks);
    const bare = marks.map(({ x }) => ({ x, label: "" }));
    for (const [metric, chart] of this.charts) {
      const curves = [...history.nodeCurves(metric)];
      chart.update(nodeSeries(curves), bare);
    }
    this.showNames(history.nodes());
  }

  showNames(nodes) {
    const shown = nodes.slice(0, MAX_NODES);
    const wanted = nodes.join(" ");
    if (this.shownNodes === wanted) return;
    this.shownNodes = wanted;
    put(this.names, shown.map((node, rank) => h("li", {},
      h("span", { class: "key line", vars: { "--ink-of": nodeColor(rank, nodes.length) } }), node)),
    nodes.length > MAX_NODES && h("li", {}, `and ${nodes.length - MAX_NODES} more, which are in the table below`));
  }

  close() {
    for (const chart of [this.reward, ...this.charts.values()]) chart.close();
  }
}

/** Return the metrics of all steps as CSV, a step a line, a metric a column. */
function metricsCsv(steps) {
  const names = [...new Set(steps.flatMap((step) => Object.keys(step.metrics)))].sort();
  const cell = (value) => (value === undefined || value === null ? "" : `${value}`);
  const rows = steps.map(({ stage, step, metrics }) => [stage, step, ...names.map((name) => cell(metrics[name]))]);
  return [["stage", "step", ...names], ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

function rewardSeries(history) {
  const reward = history.curve(REWARD);
  return [
    { name: "chance", points: history.curve("stage/chance"), style: "level", color: "var(--soft)" },
    { name: "each step", points: reward, style: "faint" },
    { name: "moving mean", points: reward, style: "line", smooth: true },
    { name: "held out, greedy", points: history.accuracy("greedy"), style: "dots", color: "var(--greedy)" },
    { name: "held out, sampled", points: history.accuracy("sampled"), style: "rings", color: "var(--sampled)" },
  ];
}

function nodeSeries(curves) {
  const all = curves.map(([node]) => node);
  return curves.slice(0, MAX_NODES).map(([node, points], rank) => ({
    name: node, points, style: "thin", color: nodeColor(rank, all.length),
  }));
}
