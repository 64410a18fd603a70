// A graph as SVG: nodes with a caption and a shade, and the text that travels on each edge.

import { collapse } from "./collapse.js";
import { freshId, svg } from "./dom.js";
import { layOut } from "./layout.js";

const CHARACTER = 7.4; // of the 12 px monospace font
const LABEL_CHARACTER = 6.7; // of the 11 px one
const NODE_HEIGHT = 30;
const CAPTION_HEIGHT = 14;
const ROW = 30;
const GAP = 64;
const MARGIN = 10;
const MAX_LABEL = 20;
const MAX_LABELS = 60;
const PLACES = [0.5, 0.36, 0.64, 0.24, 0.76];

/**
 * Return the drawing of a topology document as an SVG element.
 *
 * `captions`: node -> short text under its name. `shades`: node -> 0 to 1, how strongly it is filled. `kinds`: node ->
 * a class, such as "bad". `weights`: "sender -> reader" -> 0 to 1, how thick the edge is. `texts`: node -> what it said,
 * shown on each of its edges. `onSelect(node)`: nodes become buttons; `selected` is the one that is chosen. Of a graph
 * with more than 1,000 edges neighbouring layers are drawn as one node, which is no button.
 */
export function drawGraph(whole, { label = `graph of ${whole.nodes.length} nodes`, ...given } = {}) {
  const { topology, options } = collapse(whole, given);
  const { captions = {}, texts = {} } = options;
  const plan = layOut(topology);
  const hasCaptions = Object.keys(captions).length > 0;
  const frame = frameOf(plan, captions, texts, NODE_HEIGHT + (hasCaptions ? CAPTION_HEIGHT : 0));
  const edges = edgesOf(topology, plan, frame);
  const role = options.onSelect ? "group" : "img";
  const arrow = freshId("arrow");
  return svg("svg", { class: "graph", role, "aria-label": topology === whole ? label : `${label}, drawn by layers`, width: frame.width, height: frame.height, vars: { "--full": `${frame.width}px` },
    viewBox: `0 0 ${frame.width} ${frame.height}` },
    svg("defs", {}, svg("marker", { id: arrow, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8,
      markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z" }))),
    svg("g", { class: "edges" }, edges.map((edge) => drawEdge(edge, arrow, options))),
    topology.nodes.map((node) => drawNode(node, topology, frame, options)),
    svg("g", { class: "labels" }, labelsOf(edges, frame, texts, options)));
}

function frameOf(plan, captions, texts, nodeHeight) {
  const longestText = Math.max(0, ...Object.values(texts).map((text) => shortened(text).length));
  const gap = Math.max(GAP, longestText ? 34 + LABEL_CHARACTER * longestText : 0);
  const row = ROW * (nodeHeight / NODE_HEIGHT);
  let left = MARGIN;
  const columns = plan.layers.map((spots) => {
    const nodes = spots.filter((spot) => !spot.isLane);
    const longest = Math.max(3, ...nodes.map(({ node }) => Math.max(node.length, (captions[node] || "").length)));
    const right = left + 20 + CHARACTER * longest;
    const column = { left, right };
    left = right + gap;
    return column;
  });
  const middle = (spot) => MARGIN + nodeHeight / 2 + spot.row * row;
  return {
    plan, nodeHeight, middle,
    left: (spot) => columns[spot.layer - 1].left,
    right: (spot) => columns[spot.layer - 1].right,
    width: Math.ceil(columns[columns.length - 1].right + MARGIN),
    height: Math.ceil((plan.rows - 1) * row + nodeHeight + 2 * MARGIN),
  };
}

/** Return each edge with the stretches of its way: along the sender's lanes, then to the reader. */
function edgesOf(topology, plan, frame) {
  return (topology.edges || []).map(([source, target]) => {
    const first = plan.layerOf.get(source);
    const last = plan.layerOf.get(target);
    const spots = [];
    for (let layer = first; layer < last; layer += 1) spots.push(plan.spot(source, layer));
    spots.push(plan.spot(target, last));
    const stretches = spots.slice(1).map((end, index) => ({
      x1: frame.right(spots[index]), y1: frame.middle(spots[index]), x2: frame.left(end), y2: frame.middle(end),
    }));
    return { source, target, stretches };
  });
}

function drawEdge({ source, target, stretches }, arrow, { texts = {}, weights = {}, selected }) {
  const path = stretches.map(({ x1, y1, x2, y2 }, index) => {
    const bend = (x1 + x2) / 2;
    const start = index ? `H${x1.toFixed(1)}` : `M${x1.toFixed(1)} ${y1.toFixed(1)}`;
    return `${start}C${bend.toFixed(1)} ${y1.toFixed(1)} ${bend.toFixed(1)} ${y2.toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`;
  }).join("");
  const said = texts[source] === undefined ? "" : `: ${texts[source]}`;
  const isChosen = selected === source || selected === target;
  const weight = weights[`${source} -> ${target}`];
  const vars = weight === undefined ? {} : { "stroke-width": `${(0.8 + 5 * Math.min(weight, 1)).toFixed(2)}px` };
  return svg("path", { d: path, class: isChosen ? "edge chosen" : "edge", "marker-end": `url(#${arrow})`, vars },
    svg("title", {}, `${source} to ${target}${said}`));
}

function drawNode(node, topology, frame, { captions = {}, shades = {}, kinds = {}, titles = {}, selected, onSelect, isPart }) {
  const spot = frame.plan.spot(node.id, frame.plan.layerOf.get(node.id));
  const left = frame.left(spot);
  const width = frame.right(spot) - left;
  const middle = frame.middle(spot);
  const caption = captions[node.id];
  const base = middle + 4 - (caption ? CAPTION_HEIGHT / 2 : 0);
  const classes = ["node", kinds[node.id], node.id === topology.output && "output",
    node.reads_task === false && "deaf", node.id === selected && "chosen"].filter(Boolean).join(" ");
  const shade = 0.08 + 0.6 * Math.min(Math.max(shades[node.id] ?? 0.1, 0), 1);
  const button = onSelect && !isPart?.(node.id) && { tabindex: 0, role: "button", "aria-pressed": String(node.id === selected),
    "data-node": node.id, onclick: () => onSelect(node.id), onkeydown: (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onSelect(node.id); }
    } };
  return svg("g", { class: classes, ...button },
    svg("title", {}, titles[node.id] || node.id),
    svg("rect", { x: left, y: middle - frame.nodeHeight / 2, width, height: frame.nodeHeight, rx: 6,
      "fill-opacity": shade.toFixed(2) }),
    svg("text", { x: left + width / 2, y: base }, node.id),
    caption && svg("text", { x: left + width / 2, y: base + CAPTION_HEIGHT, class: "caption" }, caption));
}

// A label that would cover another is put elsewhere on its edge, or left out: the list beside the drawing has them all.
function labelsOf(edges, frame, texts, { selected }) {
  const touched = (edge) => edge.source === selected || edge.target === selected;
  const wanted = edges.filter((edge) => texts[edge.source] !== undefined);
  const shown = wanted.length > MAX_LABELS ? wanted.filter(touched) : wanted;
  const taken = [];
  return shown.map((edge) => {
    const text = shortened(texts[edge.source]);
    const width = LABEL_CHARACTER * text.length + 10;
    const place = placeOf(edge, width, taken);
    if (!place) return null;
    taken.push(place);
    return svg("g", { class: touched(edge) ? "label chosen" : "label" },
      svg("title", {}, `${edge.source} to ${edge.target}: ${texts[edge.source]}`),
      svg("rect", { x: place.left, y: place.top, width, height: 17, rx: 4 }),
      svg("text", { x: place.left + width / 2, y: place.top + 12.4 }, text));
  });
}

function placeOf(edge, width, taken) {
  // On its own last stretch: what comes before may be shared with the sender's other edges.
  const stretch = edge.stretches[edge.stretches.length - 1];
  for (const t of PLACES) {
    const x = bezier(stretch.x1, (stretch.x1 + stretch.x2) / 2, (stretch.x1 + stretch.x2) / 2, stretch.x2, t);
    const y = bezier(stretch.y1, stretch.y1, stretch.y2, stretch.y2, t);
    const place = { left: x - width / 2, right: x + width / 2, top: y - 8.5, bottom: y + 8.5 };
    const isFree = taken.every((other) => place.right < other.left || place.left > other.right
      || place.bottom + 1 < other.top || place.top - 1 > other.bottom);
    if (isFree) return place;
  }
  return null;
}

function bezier(a, b, c, d, t) {
  const u = 1 - t;
  return u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * c + t * t * t * d;
}

function shortened(text) {
  const line = text.replace(/\s+/g, " ").trim() || "(empty)";
  return line.length <= MAX_LABEL ? line : `${line.slice(0, MAX_LABEL - 1)}…`;
}
