// Line charts as SVG. Drawn at the width they have on the screen, so that text keeps its size on phones; their height is
// fixed, so that nothing jumps when data comes.

import { ChartTools, csvOf } from "./chart_tools.js";
import { freshId, h, oncePerFrame, put, say, svg } from "./dom.js";
import { number, percent } from "./format.js";
import { colored, draw, frameOf, grid, marksOf, TOP } from "./plot.js";

const FORMATS = { number, percent };
const WEIGHT = 0.8;
const DRAGGED = 8; // pixels from which on a drag is one
const MANY = 40; // steps from which on a chart can be zoomed

/**
 * A chart of several series over steps: values under the pointer, a legend that hides series, and a drag that zooms.
 *
 * A series is `{name, points: [[x, y], ...], style: "line" | "thin" | "faint" | "level" | "dots" | "rings", color,
 * mean}`, ascending in x; those of one name share an entry of the legend. `mean`: `{name, starts, only}` adds its
 * moving mean, anew from each of `starts`; `only` leaves out the series itself. A mark is `{x, label}`: a vertical
 * line. `format`: "number" or "percent". `tools`: smoothing, zoom and CSV as buttons.
 */
export class Chart {
  constructor({ title, note = "", xLabel = "step", yRange = null, height = 220, legend = true, format = "number", tools = false }) {
    this.options = { title, xLabel, yRange, height, format: FORMATS[format] };
    Object.assign(this, { data: { series: [], marks: [] }, frame: null, hidden: new Set(), weight: WEIGHT, range: null });
    this.image = svg("svg", { class: "chart", role: "img", "aria-label": title, height });
    this.readout = h("span", { class: "readout" });
    this.names = legend ? h("ul", { class: "legend" }) : null;
    this.tools = tools ? new ChartTools(this) : null;
    const caption = h("figcaption", {}, h("strong", {}, title), note && h("span", {}, ` ${note}`), this.readout);
    this.element = h("figure", { class: "chart-figure" }, caption, this.tools && this.tools.element, this.image, this.names);
    this.clip = freshId("clip");
    this.redraw = oncePerFrame(() => this.draw());
    this.watcher = new ResizeObserver(this.redraw);
    this.watcher.observe(this.image);
    this.image.addEventListener("pointerdown", (event) => this.press(event));
    this.image.addEventListener("pointermove", (event) => this.read(event));
    this.image.addEventListener("pointerup", (event) => this.release(event));
    this.image.addEventListener("pointerleave", () => this.leave());
    this.image.addEventListener("dblclick", () => this.show(null));
  }

  /** Show other data. */
  update(series, marks = []) {
    this.data = { series: series.filter((entry) => entry.points.length), marks };
    this.redraw();
  }

  /** Show a stretch of x, [from, to]; null shows all. */
  show(range) {
    this.range = range;
    this.redraw();
  }

  /** Smooth with another weight of the past, 0 to 1. */
  smooth(weight) {
    this.weight = weight;
    this.redraw();
  }

  /** Hide the series of a name, or show them again. */
  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.redraw();
  }

  /** Return what is shown as CSV: a line per x, a column per series. */
  csv() {
    return csvOf(this.options.xLabel, this.shown());
  }

  /** Return the first and the last x of all series; null without any. */
  extent() {
    const all = this.data.series.flatMap((entry) => entry.points.map((point) => point[0]));
    return all.length ? [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))] : null;
  }

  /** Whether there are so many steps that a part of them is worth a look. */
  get canZoom() {
    return this.data.series.some((entry) => entry.points.length >= MANY);
  }

  all() {
    return this.data.series.flatMap((entry) => (entry.mean
      ? [...(entry.mean.only ? [] : [entry]), ...meansOf(entry, this.weight)] : [entry]));
  }

  shown() {
    return this.all().filter((entry) => !this.hidden.has(entry.name));
  }

  draw() {
    const width = this.image.clientWidth;
    if (!width) return;
    const { height, xLabel, title, format, yRange } = this.options;
    this.image.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { marks } = this.data;
    const series = this.shown();
    this.showNames();
    if (this.tools) this.tools.show();
    if (!series.length) {
      this.frame = null;
      const text = this.data.series.length ? "all lines are hidden" : "no data yet";
      put(this.image, svg("text", { x: width / 2, y: height / 2, class: "tick middle" }, text));
      return;
    }
    const frame = frameOf(series, { yRange, range: this.range, width, height, marks });
    this.frame = frame;
    this.cursor = svg("g", { class: "cursor" });
    put(this.image,
      svg("clipPath", { id: this.clip }, svg("rect", { x: frame.x(frame.first) - 5, y: 0, width: frame.x(frame.last) - frame.x(frame.first) + 10, height })),
      grid(frame, xLabel), marksOf(frame, marks),
      svg("g", { "clip-path": `url(#${this.clip})` }, series.map((entry) => draw(entry, frame))), this.cursor);
    this.image.setAttribute("aria-label", `${title}: ${firstOfEachName(series).map(spoken(format)).join("; ")}`);
  }

  // The buttons stay where nothing about them is new, so that a focus is kept.
  showNames() {
    if (!this.names) return;
    const entries = firstOfEachName(this.all());
    const wanted = entries.map((entry) => `${entry.name} ${this.hidden.has(entry.name)}`).join("\n");
    if (this.shownNames === wanted) return;
    this.shownNames = wanted;
    const focused = this.names.contains(document.activeElement) && document.activeElement.textContent;
    put(this.names, entries.map((entry) => h("li", {}, h("button", { type: "button", "aria-pressed": String(!this.hidden.has(entry.name)),
      title: "show or hide", onclick: () => this.toggle(entry.name) },
    colored(h("span", { class: `key ${entry.style || "line"}` }), entry), entry.name))));
    if (focused) [...this.names.querySelectorAll("button")].find((one) => one.textContent === focused)?.focus();
  }

  placeOf(event) {
    return event.clientX - this.image.getBoundingClientRect().left;
  }

  press(event) {
    if (!this.frame || !this.canZoom || event.button !== 0) return;
    this.from = this.placeOf(event);
    this.image.setPointerCapture(event.pointerId);
  }

  release(event) {
    const from = this.from ?? null;
    this.from = null;
    if (from === null || !this.frame) return;
    const to = this.placeOf(event);
    if (Math.abs(to - from) < DRAGGED) return;
    const [low, high] = [from, to].sort((a, b) => a - b).map((place) => this.frame.value(place));
    this.show([Math.max(low, this.frame.first), Math.min(high, this.frame.last)]);
  }

  /** Show the values at the step under the pointer, and the stretch that is being chosen. */
  read(event) {
    if (!this.frame) return;
    const place = this.placeOf(event);
    const series = this.shown();
    const { first, last, bottom } = this.frame;
    const steps = series.flatMap((entry) => entry.points.map((point) => point[0])).filter((x) => x >= first && x <= last);
    if (!steps.length) return;
    const x = nearest(steps, this.frame.value(place));
    const found = series.map((entry) => [entry, entry.points.find((point) => point[0] === x)])
      .filter(([, point]) => point && Number.isFinite(point[1]));
    const texts = found.slice(0, 4).map(([entry, point]) => `${entry.name} ${this.options.format(point[1])}`);
    say(this.readout, `${this.options.xLabel} ${number(x)}: ${texts.join(", ")}${found.length > 4 ? " …" : ""}`);
    const at = this.frame.x(x);
    const from = this.from ?? place;
    put(this.cursor, svg("line", { x1: at, x2: at, y1: TOP, y2: bottom }),
      svg("rect", { x: Math.min(from, place), width: Math.abs(place - from), y: TOP, height: bottom - TOP }),
      found.map(([entry, point]) => colored(svg("circle", { cx: at, cy: this.frame.y(point[1]), r: 3.4 }), entry)));
  }

  leave() {
    say(this.readout, "");
    if (this.cursor) put(this.cursor);
  }

  close() {
    this.watcher.disconnect();
    this.redraw.cancel();
  }
}

/** Return the exponential moving mean of some values, corrected for its start; `weight` is what a step leaves of the past. */
export function movingMean(values, weight) {
  let total = 0;
  let norm = 0;
  return values.map((value) => {
    total = weight * total + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return total / norm;
  });
}

// Of each stretch by itself: a new graph on a new level is another quantity.
function meansOf({ points, color, mean, name }, weight) {
  const { starts = [0], name: meanName = name } = mean;
  return starts.map((start, place) => {
    const part = points.filter(([x]) => x > start && x <= (starts[place + 1] ?? Infinity));
    const means = movingMean(part.map((point) => point[1]), weight);
    return { name: meanName, points: part.map(([x], index) => [x, means[index]]), style: "line", color };
  }).filter((entry) => entry.points.length);
}

function firstOfEachName(series) {
  return series.filter((entry, place) => series.findIndex((other) => other.name === entry.name) === place);
}

const spoken = (format) => (series) => {
  const [x, y] = series.points[series.points.length - 1];
  return `${series.name} ${format(y)} at ${number(x)}`;
};

function nearest(values, wanted) {
  return values.reduce((best, value) => (Math.abs(value - wanted) < Math.abs(best - wanted) ? value : best));
}
