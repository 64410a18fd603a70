// The trained graph: how each node does, and what travels on its edges in a chosen rollout.

import { get } from "./api.js";
import { h, put, say } from "./dom.js";
import { number, percent, UNKNOWN } from "./format.js";
import { drawGraph } from "./graph.js";
import { Messages } from "./messages.js";
import { card } from "./parts.js";
import { nodeColor } from "./plot.js";
import { promptsOf } from "./run_answers.js";
import { drawSpark, sparkline } from "./spark.js";
import { table } from "./table.js";
import { ZoomPane } from "./zoom.js";

const READ_AGAIN_MS = 1500;
const DRAW_AGAIN_MS = 400;
const MAX_SPARKS = 64;
const FIGURES = {
  gradient: { word: "gradient norm", metric: "train/grad_norm", show: number },
  entropy: { word: "entropy", metric: "train/entropy", show: number },
  length: { word: "length", metric: "rollout/length_mean", show: (value) => `${number(value, 2)} tokens` },
  truncated: { word: "cut off", metric: null, show: percent },
};

/** The panel of the graph; `draw` shows what its history holds by now, `expect` looks for new rollouts. */
export class GraphPanel {
  constructor(history, path) {
    Object.assign(this, { history, path, after: 0, timer: 0, drawTimer: 0, isReading: false, selected: null });
    this.chosen = null; // a rollout; null = the latest
    this.figure = h("select", { id: "figure", onchange: () => this.drawNow() },
      Object.entries(FIGURES).map(([name, { word }]) => h("option", { value: name }, word)));
    this.choice = h("select", { id: "rollout", onchange: () => this.choose(this.choice.value) });
    this.before = h("button", { type: "button", class: "small", "aria-label": "Rollout before", onclick: () => this.step(-1) }, "←");
    this.behind = h("button", { type: "button", class: "small", "aria-label": "Next rollout", onclick: () => this.step(1) }, "→");
    this.drawing = new ZoomPane("The graph, drawn",
      h("p", { class: "note" }, "The graph appears when the run begins."));
    this.messages = new Messages((node) => this.select(node), { promptOf: promptsOf(`${path}/rollouts`) });
    this.nodes = h("div", {});
    this.element = card("The graph", { note: "Sampled rollouts are shown as they come. A node's message travels along all of its edges; choose a node to see what it reads and says." },
      h("div", { class: "chooser" },
        h("div", { class: "group" }, h("label", { for: "rollout" }, "Rollout"), this.before, this.choice, this.behind),
        h("div", { class: "group" }, h("label", { for: "figure" }, "Shade nodes by"), this.figure)),
      this.drawing.element, this.messages.element, h("h3", {}, "Health of the nodes"), this.nodes);
    this.showChoice();
    this.read();
  }

  /** Look for rollouts soon: the run has taken a step. */
  expect() {
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.read(); }, READ_AGAIN_MS);
  }

  async read() {
    if (this.isReading) return;
    this.isReading = true;
    try {
      for (;;) {
        const page = await get(`${this.path}/rollouts?after=${this.after}&limit=1000`);
        this.after = page.last_id;
        if (page.data.length) {
          this.history.addRollouts(page.data);
          this.showChoice();
          this.draw();
        }
        if (!page.has_more) break;
      }
    } catch {
      this.expect(); // nothing is lost: they are read when the server is back
    }
    this.isReading = false;
  }

  draw() {
    if (!this.drawTimer) this.drawTimer = setTimeout(() => { this.drawTimer = 0; this.drawNow(); }, DRAW_AGAIN_MS);
  }

  get rollout() {
    const { rollouts } = this.history;
    return this.chosen || rollouts[rollouts.length - 1] || null;
  }

  drawNow() {
    const { rollout, history } = this;
    const topology = (rollout && history.topologyOf(rollout.stage)) || (history.stage && history.stage.topology);
    if (!topology) return;
    const nodes = topology.nodes.map(({ id }) => id);
    const health = new Map(nodes.map((id) => [id, history.health(id)]));
    const texts = rollout ? Object.fromEntries(rollout.messages.map((one) => [one.node, one.text])) : {};
    const focused = this.drawing.pane.contains(document.activeElement) && document.activeElement.dataset.node;
    this.drawing.show(drawGraph(topology, { ...this.look(nodes, health), texts, selected: this.selected,
      onSelect: (node) => this.select(node), label: `graph of ${nodes.length} nodes, output ${topology.output}` }));
    if (focused) this.drawing.pane.querySelector(`[data-node="${CSS.escape(focused)}"]`)?.focus();
    this.messages.show(topology, rollout, this.selected);
    this.showNodes(nodes, health);
  }

  look(nodes, health) {
    const name = this.figure.value;
    const values = nodes.map((id) => health.get(id)[name]);
    const most = name === "truncated" ? 1 : Math.max(...values.map((value) => value ?? 0), 1e-9);
    const byNode = (make) => Object.fromEntries(nodes.map((id, place) => [id, make(id, values[place])]));
    return {
      captions: byNode((id, value) => (value === null ? UNKNOWN : FIGURES[name].show(value))),
      shades: byNode((id, value) => (value ?? 0) / most),
      kinds: byNode((id) => health.get(id).kind),
      titles: byNode((id, value) => `${id}: ${health.get(id).word}, ${FIGURES[name].word} ${value === null ? "not known" : FIGURES[name].show(value)}`),
    };
  }

  select(node) {
    this.selected = this.selected === node ? null : node;
    this.drawNow();
  }

  choose(id) {
    this.chosen = id ? this.history.rollouts.find((one) => String(one.id) === id) : null;
    this.showChoice();
    this.drawNow();
  }

  step(by) {
    const { rollouts } = this.history;
    const place = rollouts.indexOf(this.rollout) + by;
    if (rollouts[place]) this.choose(place === rollouts.length - 1 ? "" : String(rollouts[place].id));
  }

  showChoice() {
    const { rollouts } = this.history;
    const place = rollouts.indexOf(this.rollout);
    this.before.disabled = place <= 0;
    this.behind.disabled = place < 0 || place >= rollouts.length - 1;
    const wanted = rollouts.length ? rollouts[rollouts.length - 1].id : 0;
    if (this.shownChoice !== wanted) {
      this.shownChoice = wanted;
      put(this.choice, h("option", { value: "" }, rollouts.length ? "the latest" : "none sampled yet"),
        [...rollouts].reverse().map((one) => h("option", { value: one.id }, titleOf(one))));
    }
    this.choice.value = this.chosen ? String(this.chosen.id) : "";
    this.choice.disabled = !rollouts.length;
  }

  showNodes(nodes, health) {
    const names = nodes.join(" ");
    if (this.shownNodes !== names) {
      this.shownNodes = names;
      this.rows = new Map(nodes.map((id, rank) => [id, new NodeRow(id, rank, nodes.length)]));
      put(this.nodes, table("Health of the nodes", ["node", "state", "#gradient norm", "#entropy", "#length", "#cut off"],
        [...this.rows.values()].map((row) => row.cells)));
    }
    for (const [id, row] of this.rows) row.update(health.get(id), this.history);
  }

  close() {
    clearTimeout(this.timer);
    clearTimeout(this.drawTimer);
    this.isReading = true;
  }
}

class NodeRow {
  constructor(id, rank, count) {
    this.id = id;
    this.color = nodeColor(rank, count);
    this.word = h("span", { class: "health" });
    this.values = new Map();
    this.sparks = new Map();
    const figures = Object.entries(FIGURES).map(([name, { metric, word }]) => {
      this.values.set(name, h("span", {}, UNKNOWN));
      if (metric && count <= MAX_SPARKS) this.sparks.set(name, sparkline([], { width: 64, height: 20, label: `${word} of ${id}` }));
      return [this.sparks.get(name), " ", this.values.get(name)];
    });
    this.cells = [h("span", { class: "chip", vars: { "--ink-of": this.color } }, id), this.word, ...figures];
  }

  update(health, history) {
    say(this.word, health.word);
    this.word.className = `health ${health.kind}`;
    this.word.title = health.reason;
    for (const [name, { show }] of Object.entries(FIGURES)) {
      say(this.values.get(name), health[name] === null ? UNKNOWN : show(health[name]));
    }
    for (const [name, spark] of this.sparks) {
      const points = history.curve(`${FIGURES[name].metric}/${this.id}`);
      drawSpark(spark, points.map((point) => point[1]), { width: 64, height: 20, color: this.color });
    }
  }
}

function titleOf(rollout) {
  const verdict = rollout.failure ? "failed" : `reward ${number(rollout.reward, 2)}`;
  const stage = rollout.stage ? `stage ${rollout.stage + 1}, ` : "";
  return `${stage}step ${rollout.step}, ${verdict}${rollout.replayed ? `, ${rollout.replayed} asked anew` : ""}`;
}
