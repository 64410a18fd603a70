// How a run learns: the reward with validation accuracy, and what each node does over time.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { h, put } from "./dom.js";
import { percent } from "./format.js";
import { RunHistory } from "./history.js";
import { card, problemPanel } from "./parts.js";
import { nodeColor } from "./plot.js";
import { saveText } from "./save.js";

const REWARD = "rollout/reward_mean";
const MAX_NODES = 16;
const MAX_OTHERS = 100;
// Metric, heading, and how to read it.
const PER_NODE = [
  ["train/entropy", "Entropy", "nats per token; falls as a node becomes sure"],
  ["train/kl", "KL to the base", "nats per token; how far a node has moved"],
  ["rollout/length_mean", "Message length", "tokens"],
  ["train/grad_norm", "Gradient norm", "before clipping; near 0: not learning"],
];

/** The panel of curves of a run; `draw` shows what its history and its record, `run()`, hold by now. */
export class CurvePanel {
  constructor(history, run) {
    Object.assign(this, { history, run, other: null });
    const { spec } = run();
    this.hasKl = spec.training.kl_weight > 0;
    this.reward = new Chart({ title: "Reward", note: "of each step, and validation accuracy", yRange: [0, 1.05], height: 280,
      format: "percent", tools: true });
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
    this.trouble = h("div", {});
    this.choice = h("select", { id: "compare-with", onfocus: () => this.listRuns(), onchange: () => this.compare(this.choice.value) },
      h("option", { value: "" }, "no other run"));
    this.element = card("Learning", { tools: [h("label", { for: "compare-with" }, "Beside"), this.choice,
      h("button", { type: "button", class: "small", onclick: () => saveText(metricsCsv(history.steps), `${spec.name}-metrics.csv`) }, "Metrics as CSV")] },
    this.trouble, this.reward.element, h("h3", {}, "Node by node"), this.names, this.grid, this.noKl);
  }

  /** Offer the latest runs, once they are asked for. */
  async listRuns() {
    if (this.isListed) return;
    this.isListed = true;
    try {
      const { data } = await get(`/v1/runs?limit=${MAX_OTHERS}`);
      this.choice.append(...data.filter(({ id }) => id !== this.run().id).map(({ id, name }) => h("option", { value: id }, `${name}, ${id}`)));
    } catch (error) {
      this.isListed = false;
      put(this.trouble, problemPanel(error));
    }
  }

  /** Draw the reward of another run beside this one's; without an id, of none. */
  async compare(id) {
    put(this.trouble);
    try {
      const history = id ? await rewardsOf(id) : null;
      if (this.choice.value !== id) return; // another was chosen while this one was read
      this.other = history && { name: this.choice.selectedOptions[0].textContent, history };
    } catch (error) {
      put(this.trouble, problemPanel(error));
    }
    this.draw();
  }

  draw() {
    const { history } = this;
    const marks = history.marks();
    this.reward.update([...levels(history, this.run().result), ...rewardSeries(history), ...otherSeries(this.other)], marks);
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
    { name: "each step", points: reward, style: "faint", mean: { name: "moving mean", starts: history.starts() } },
    { name: "validation accuracy, greedy", points: history.accuracy("greedy"), style: "dots", color: "var(--greedy)" },
    { name: "validation accuracy, sampled", points: history.accuracy("sampled"), style: "rings", color: "var(--sampled)" },
  ];
}

/** Return what a guess is worth, and what the final graph answers on the bare base. */
function levels(history, result) {
  const accuracy = (result && result.accuracy) || {};
  const last = history.steps.length ? history.steps[history.steps.length - 1].x : 0;
  const untrained = [["untrained", "greedy"], ["untrained_sampled", "sampled"]].filter(([key]) => accuracy[key] && last)
    .map(([key, mode]) => ({ name: `untrained, ${mode}, ${percent(accuracy[key].value)}`, style: "level", color: `var(--${mode})`,
      points: [[0, accuracy[key].value], [last, accuracy[key].value]] }));
  return [{ name: "chance", points: history.curve("stage/chance"), style: "level", color: "var(--soft)" }, ...untrained];
}

function otherSeries(other) {
  if (!other) return [];
  const { name, history } = other;
  return [{ name, points: history.curve(REWARD), color: "var(--node-3)", mean: { name, starts: history.starts(), only: true } }];
}

/** Return the rewards of another run. */
async function rewardsOf(id) {
  const history = new RunHistory();
  let page = { last_id: 0, has_more: true };
  while (page.has_more) {
    page = await get(`/v1/runs/${encodeURIComponent(id)}/metrics?names=${REWARD}&after=${page.last_id}&limit=1000`);
    history.add(page.data.map((point) => ({ ...point, type: "step" })));
  }
  return history;
}

function nodeSeries(curves) {
  const all = curves.map(([node]) => node);
  return curves.slice(0, MAX_NODES).map(([node, points], rank) => ({
    name: node, points, style: "thin", color: nodeColor(rank, all.length),
  }));
}
