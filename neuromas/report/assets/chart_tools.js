// The buttons of a chart: smoothing, a stretch of the steps, and its values as a file.

import { freshId, h } from "./dom.js";
import { saveText } from "./save.js";

const WEIGHTS = [[0, "none"], [0.8, "some"], [0.95, "strong"]];
const FEWEST = 4; // steps that are shown at least

/** The tools of one chart. */
export class ChartTools {
  constructor(chart) {
    this.chart = chart;
    const id = freshId("smoothing");
    this.choice = h("select", { id, onchange: () => chart.smooth(Number(this.choice.value)) },
      WEIGHTS.map(([weight, word]) => h("option", { value: weight, selected: weight === chart.weight }, word)));
    this.smoothing = h("span", { class: "group" }, h("label", { for: id }, "Smoothing"), this.choice);
    this.buttons = {
      in: button("+", "Zoom in", () => this.zoom(0.5)), out: button("−", "Zoom out", () => this.zoom(2)),
      earlier: button("←", "Earlier steps", () => this.move(-0.5)), later: button("→", "Later steps", () => this.move(0.5)),
    };
    this.zooms = h("span", { class: "group" }, Object.values(this.buttons));
    this.element = h("div", { class: "chart-tools" }, this.smoothing, this.zooms,
      button("CSV", "Save the lines shown as CSV", () => saveText(chart.csv(), `${fileName(chart.options.title)}.csv`)));
  }

  show() {
    const { chart, buttons } = this;
    const all = chart.extent();
    const isWhole = chart.range === null;
    this.smoothing.hidden = !chart.data.series.some((entry) => entry.mean);
    this.zooms.hidden = !chart.canZoom;
    buttons.out.disabled = isWhole;
    buttons.earlier.disabled = isWhole || chart.range[0] <= all[0];
    buttons.later.disabled = isWhole || chart.range[1] >= all[1];
  }

  zoom(factor) {
    const [first, last] = this.chart.extent();
    const [low, high] = this.chart.range || [first, last];
    const width = Math.max(factor * (high - low), FEWEST);
    if (width >= last - first) this.chart.show(null);
    else this.chart.show(within((low + high - width) / 2, width, first, last));
  }

  move(share) {
    const [low, high] = this.chart.range;
    this.chart.show(within(low + share * (high - low), high - low, ...this.chart.extent()));
  }
}

/** Return series as CSV: a line per x, a column per name; a name that comes again gets a number. */
export function csvOf(xLabel, series) {
  const names = series.map(({ name }, place) => {
    const before = series.slice(0, place).filter((other) => other.name === name).length;
    return before ? `${name} ${before + 1}` : name;
  });
  const rows = new Map();
  series.forEach(({ points }, column) => {
    for (const [x, y] of points) {
      if (!rows.has(x)) rows.set(x, Array(series.length).fill(""));
      rows.get(x)[column] = Number.isFinite(y) ? y : "";
    }
  });
  const lines = [...rows].sort(([a], [b]) => a - b).map(([x, row]) => [x, ...row].join(","));
  return `${[[xLabel, ...names].map(quoted).join(","), ...lines].join("\n")}\n`;
}

function within(low, width, first, last) {
  const from = Math.min(Math.max(low, first), last - width);
  return [from, from + width];
}

function button(text, label, onclick) {
  return h("button", { type: "button", class: "small", "aria-label": label, title: label, onclick }, text);
}

function quoted(text) {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function fileName(title) {
  return title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
}
