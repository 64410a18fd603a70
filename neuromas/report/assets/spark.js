// Sparklines: a small line without axes, for rows of a table.

import { put, svg } from "./dom.js";
import { colored, extent, thinned } from "./plot.js";

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
