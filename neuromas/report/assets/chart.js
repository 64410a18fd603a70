// Line charts and sparklines as SVG. Drawn at the width they have on the screen, so that text keeps its size on phones;
// their height is fixed by the style sheet, so that nothing jumps when data comes.

import { h, oncePerFrame, put, say, svg } from "./dom.js";
import { number } from "./format.js";

const LEFT = 46;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 26;
const MAX_POINTS = 400;
const MARK_ROW = 15;
const CHARACTER = 6.6;
const WEIGHT = 0.8;

/**
 * A chart of several series over steps.
 *
 * A series is `{name, points: [[x, y], ...], style: "line" | "thin" | "faint" | "level" | "dots" | "rings", color, smooth}`,
 * ascending in x; one without a name is left out of the legend, by which the others are switched off and on. Of one with
 * `smooth` the moving mean is drawn, anew from each mark, as smooth as the reader wants. A mark is `{x, label}`: a
 * vertical line.
 */
export class Chart {
  constructor({ title, note = "", xLabel = "step", yRange = null, height = 220, legend = true, format = number }) {
    this.options = { title, xLabel, yRange, height, format };
    this.image = svg("svg", { class: "chart", role: "img", "aria-label": title, height });
    this.readout = h("span", { class: "readout" });
    this.names = legend ? h("ul", { class: "legend" }) : null;
    this.hidden = new Set();
    this.weight = WEIGHT;
    this.smoothing = h("label", { class: "smoothing", hidden: true }, "smoothing", h("input", { type: "range", min: 0, max: 0.98,
      step: 0.02, value: WEIGHT, oninput: (event) => this.smooth(Number(event.target.value)) }));
    const caption = h("figcaption", {}, h("strong", {}, title), note && h("span", {}, ` ${note}`), this.readout);
    this.element = h("figure", { class: "chart-figure" }, caption, this.image,
      h("div", { class: "chart-foot" }, this.names, this.smoothing));
    this.data = { series: [], marks: [] };
    this.frame = null;
    this.redraw = oncePerFrame(() => this.draw());
    this.watcher = new ResizeObserver(this.redraw);
    this.watcher.observe(this.image);
    this.image.addEventListener("pointermove", (event) => this.read(event));
    this.image.addEventListener("pointerleave", () => this.leave());
  }

  /** Show other data. */
  update(series, marks = []) {
    this.data = { series: series.filter((entry) => entry.points.length), marks };
    this.redraw();
  }

  /** Draw moving means that keep `weight` of the past at each step. */
  smooth(weight) {
    this.weight = weight;
    this.redraw();
  }

  /** Switch a series off or on. */
  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.redraw();
  }

  /** Return the series as they are drawn: those that are switched on, moving means in place of what is to be smoothed. */
  shown() {
    const { series, marks } = this.data;
    return series.filter((entry) => !this.hidden.has(entry.group || entry.name)).flatMap((entry) => {
      if (!entry.smooth) return [entry];
      return parts(entry.points, marks).map((points) => {
        const means = movingMean(points.map((point) => point[1]), this.weight);
        return { ...entry, points: points.map(([x], index) => [x, means[index]]) };
      });
    });
  }

  close() {
    this.watcher.disconnect();
    this.redraw.cancel();
  }

  draw() {
    const width = this.image.clientWidth;
    if (!width) return;
    const { height, xLabel, title, format } = this.options;
    this.image.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { marks } = this.data;
    const series = this.shown();
    this.smoothing.hidden = !this.data.series.some((entry) => entry.smooth);
    this.drawLegend();
    if (!series.length) {
      this.frame = null;
      put(this.image, svg("text", { x: width / 2, y: height / 2, class: "tick middle" }, "no data yet"));
      return;
    }
    this.frame = frameOf(series, this.options.yRange, width, height, marks);
    this.cursor = svg("g", { class: "cursor" });
    put(this.image, grid(this.frame, xLabel), marksOf(this.frame, marks), series.map((entry) => draw(entry, this.frame)),
      this.cursor);
    this.image.setAttribute("aria-label", `${title}: ${lastOfEach(series).map(spoken(format)).join("; ")}`);
  }

  // Only where it changed: a button that is replaced loses the focus.
  drawLegend() {
    if (!this.names) return;
    const entries = this.data.series.filter((entry) => entry.name);
    const wanted = entries.map((entry) => `${entry.name}/${this.hidden.has(entry.group || entry.name)}`).join("\n");
    if (wanted === this.named) return;
    this.named = wanted;
    const buttons = [...this.names.querySelectorAll("button")];
    const focused = buttons.indexOf(document.activeElement);
    put(this.names, entries.map((entry) => this.legendEntry(entry)));
    if (focused >= 0) this.names.querySelectorAll("button")[focused]?.focus();
  }

  legendEntry(entry) {
    const key = h("span", { class: `key ${entry.style || "line"}`, vars: entry.color ? { "--ink-of": entry.color } : {} });
    const group = entry.group || entry.name;
    return h("li", {}, h("button", { type: "button", "aria-pressed": String(!this.hidden.has(group)), title: "show or hide",
      onclick: () => this.toggle(group) }, key, entry.name));
  }

  /** Show the values at the step under the pointer. */
  read(event) {
    if (!this.frame) return;
    const place = event.clientX - this.image.getBoundingClientRect().left;
    const series = this.shown().filter((entry) => entry.style !== "level");
    if (!series.length) return;
    const x = nearest(series.flatMap((entry) => entry.points.map((point) => point[0])), this.frame.value(place));
    const found = series.filter((entry) => entry.name)
      .map((entry) => [entry, entry.points.find((point) => point[0] === x)])
      .filter(([, point]) => point && Number.isFinite(point[1]));
    const shown = found.slice(0, 4).map(([entry, point]) => `${entry.name} ${this.options.format(point[1])}`);
    say(this.readout, `${this.options.xLabel} ${number(x)}: ${shown.join(", ")}${found.length > 4 ? " …" : ""}`);
    const at = this.frame.x(x);
    put(this.cursor, svg("line", { x1: at, x2: at, y1: TOP, y2: this.frame.bottom }),
      found.map(([entry, point]) => colored(svg("circle", { cx: at, cy: this.frame.y(point[1]), r: 3.4 }), entry)));
  }

  leave() {
    say(this.readout, "");
    if (this.cursor) put(this.cursor);
  }
}

/** Return a small line without axes; `range` fixes its vertical extent. */
export function sparkline(values, { width = 120, height = 28, range = null, label = "", color = null } = {}) {
  const image = svg("svg", { class: "spark", role: "img", width, height, preserveAspectRatio: "xMinYMid", viewBox: `0 0 ${width} ${height}`,
    "aria-label": label });
  drawSpark(image, values, { width, height, range, color });
  return image;
}

/** Draw other values into a sparkline. */
export function drawSpark(image, values, { width = 120, height = 28, range = null, color = null } = {}) {
  const points = thinned(values.map((value, index) => [index, value]).filter((point) => Number.isFinite(point[1])), 80);
  if (points.length < 2) {
    put(image, svg("line", { x1: 0, x2: width, y1: height - 3, y2: height - 3, class: "empty" }));
    return;
  }
  const [low, high] = range || extent(points.map((point) => point[1]));
  const last = points[points.length - 1][0];
  const place = ([x, y]) => [
    2 + ((x - points[0][0]) / (last - points[0][0])) * (width - 6),
    height - 3 - ((Math.min(Math.max(y, low), high) - low) / (high - low)) * (height - 6),
  ];
  const path = points.map(place).map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const [x, y] = place(points[points.length - 1]);
  put(image, colored(svg("polyline", { points: path }), { color }), colored(svg("circle", { cx: x, cy: y, r: 2.2 }), { color }));
}

/** Return the exponential moving mean of some values, corrected for its start. */
function movingMean(values, weight) {
  let total = 0;
  let norm = 0;
  return values.map((value) => {
    total = weight * total + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return total / norm;
  });
}

/** Return the colour of a node by its rank: a fixed palette for few nodes, hues around the circle for many. */
export function nodeColor(rank, count) {
  return count <= 8 ? `var(--node-${rank})` : `hsl(${Math.round((360 * rank) / count)} 60% var(--node-lightness))`;
}

/** Return at most `limit` points: means over equal runs of neighbours. */
export function thinned(points, limit = MAX_POINTS) {
  const size = Math.ceil(points.length / limit);
  if (size <= 1) return points;
  const found = [];
  for (let start = 0; start < points.length; start += size) {
    const run = points.slice(start, start + size);
    found.push([0, 1].map((axis) => run.reduce((sum, point) => sum + point[axis], 0) / run.length));
  }
  return found;
}

/** Return round numbers between two, about `count` of them. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + 1e-9 * step; index += 1) found.push(index * step);
  return found;
}

function frameOf(series, yRange, width, height, marks) {
  const points = series.flatMap((entry) => entry.points).filter((point) => Number.isFinite(point[1]));
  const [first, last] = extent(points.map((point) => point[0]));
  const [low, high] = yRange || fitted(points.map((point) => point[1]));
  const top = TOP + (marks.some((mark) => mark.label) ? 2 * MARK_ROW : 0);
  const bottom = height - BOTTOM;
  const across = width - LEFT - RIGHT;
  return {
    width, bottom, top, low, high, first, last,
    x: (value) => LEFT + ((value - first) / (last - first)) * across,
    y: (value) => bottom - ((value - low) / (high - low)) * (bottom - top),
    value: (place) => first + ((place - LEFT) / across) * (last - first),
  };
}

function fitted(values) {
  let [low, high] = extent(values);
  if (low > -0.05 * Math.abs(high)) low = Math.min(low, 0);
  return [low, high + 0.06 * (high - low)];
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

function grid(frame, xLabel) {
  const { width, bottom } = frame;
  const rows = ticks(frame.low, frame.high, 4).map((value) => [
    svg("line", { x1: LEFT, x2: width - RIGHT, y1: frame.y(value), y2: frame.y(value), class: "grid" }),
    svg("text", { x: LEFT - 6, y: frame.y(value), class: "tick end" }, number(value)),
  ]);
  const room = width - RIGHT - CHARACTER * (xLabel.length + 3);
  const columns = ticks(frame.first, frame.last, Math.max(2, Math.floor(width / 90)))
    .filter((value) => Number.isInteger(value) && frame.x(value) < room)
    .map((value) => svg("text", { x: frame.x(value), y: bottom + 15, class: "tick middle" }, number(value)));
  return [rows, columns, svg("text", { x: width - RIGHT, y: bottom + 15, class: "tick end" }, xLabel)];
}

// A text that would run into the one before stands a row lower.
function marksOf(frame, marks) {
  let row = 0;
  let end = -Infinity;
  return marks.map((mark) => {
    const x = Math.max(frame.x(mark.x), LEFT);
    row = x < end ? row + 1 : 0;
    end = x + 10 + CHARACTER * mark.label.length;
    const overflows = end > frame.width;
    return [
      svg("line", { x1: x, x2: x, y1: TOP - 4, y2: frame.bottom, class: "mark" }),
      mark.label && svg("text", { x: overflows ? x - 5 : x + 5, y: TOP + 6 + MARK_ROW * (row % 2),
        class: overflows ? "mark-label end" : "mark-label" }, mark.label),
    ];
  });
}

function draw(series, frame) {
  const places = thinned(series.points.filter((point) => Number.isFinite(point[1])))
    .map(([x, y]) => [frame.x(x), frame.y(y)]);
  if (series.style === "dots" || series.style === "rings") {
    const r = series.style === "dots" ? 3.6 : 4.4;
    return colored(svg("g", { class: series.style }, places.map(([cx, cy]) => svg("circle", { cx, cy, r }))), series);
  }
  const points = places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  if (places.length === 1) {
    return colored(svg("g", { class: "dots" }, svg("circle", { cx: places[0][0], cy: places[0][1], r: 3 })), series);
  }
  return colored(svg("polyline", { points, class: series.style || "line" }), series);
}

function colored(element, series) {
  if (series.color) element.style.setProperty("--ink-of", series.color);
  return element;
}

// The points between marks: a new graph on a new level is another quantity.
function parts(points, marks) {
  const starts = marks.length ? marks.map((mark) => mark.x) : [-Infinity];
  return starts.map((start, place) => points.filter(([x]) => x > start && x <= (starts[place + 1] ?? Infinity)))
    .filter((part) => part.length);
}

// Of the parts of one line the last.
const lastOfEach = (series) => [...new Map(series.filter((entry) => entry.name).map((entry) => [entry.name, entry])).values()];

const spoken = (format) => (series) => {
  const [x, y] = series.points[series.points.length - 1];
  return `${series.name} ${format(y)} at ${number(x)}`;
};

function nearest(values, wanted) {
  let best = values[0];
  for (const value of values) if (Math.abs(value - wanted) < Math.abs(best - wanted)) best = value;
  return best;
}
