// What a chart is drawn with: the frame that maps values to places, the grid, the marks and the series.

import { svg } from "./dom.js";
import { number } from "./format.js";

export const LEFT = 46;
export const RIGHT = 12;
export const TOP = 12;
const BOTTOM = 26;
const MAX_POINTS = 400;
const MARK_ROW = 15;
const CHARACTER = 6.6;

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

/** Return where values lie in a drawing; `range` is the stretch of x that is shown. */
export function frameOf(series, { yRange, range, width, height, marks }) {
  const points = series.flatMap((entry) => entry.points).filter((point) => Number.isFinite(point[1]));
  const [first, last] = range || extent(points.map((point) => point[0]));
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

/** Return the least and the largest value, apart from each other. */
export function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

/** Draw the lines and numbers of both axes. */
export function grid(frame, xLabel) {
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

/** Draw the marks; a text that would run into the one before stands a row lower. */
export function marksOf(frame, marks) {
  let row = 0;
  let end = -Infinity;
  return marks.filter((mark) => mark.x <= frame.last).map((mark) => {
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

/** Draw one series, as far as it can be seen. */
export function draw(series, frame) {
  const places = thinned(seen(series.points.filter((point) => Number.isFinite(point[1])), frame))
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

/** Put an element into the colour of its series. */
export function colored(element, series) {
  if (series.color) element.style.setProperty("--ink-of", series.color);
  return element;
}

// The points of the stretch that is shown, and one beyond each end, where lines leave it.
function seen(points, { first, last }) {
  const from = points.findIndex(([x]) => x >= first);
  const to = points.findLastIndex(([x]) => x <= last);
  return points.slice(Math.max(0, from < 0 ? points.length - 1 : from - 1), to + 2);
}
