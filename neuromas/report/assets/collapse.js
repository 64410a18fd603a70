// A graph with more edges than can be told apart: neighbouring layers are drawn as one node, in the same parts as
// neuromas/topology/summary.py makes.

import { layersOf } from "./layout.js";

const MAX_EDGES = 1000;
const MAX_PARTS = 40;
const MAX_TITLES = 12;

/**
 * Return what is drawn of a topology document, as `{topology, options}` for the drawing: both as they are up to 1,000
 * edges, else with at most 40 parts and the output. Nodes that are alone in their part stay as they are; a part takes
 * the highest shade and weight of what is in it, and a kind that any node of it has.
 */
export function collapse(topology, options) {
  if ((topology.edges || []).length <= MAX_EDGES) return { topology, options };
  const parts = partsOf(topology);
  const partOf = new Map([...parts].flatMap(([part, nodes]) => nodes.map((node) => [node, part])));
  const edges = new Map(topology.edges.map(([source, target]) => [partOf.get(source), partOf.get(target)])
    .filter(([source, target]) => source !== target).map((edge) => [edge.join(" -> "), edge]));
  const nodes = new Map(topology.nodes.map((node) => [node.id, node]));
  const drawn = [...parts].map(([id, members]) => ({ ...(members.length === 1 && nodes.get(id)), id,
    reads_task: members.some((member) => nodes.get(member).reads_task !== false) }));
  return {
    topology: { ...topology, nodes: drawn, edges: [...edges.values()] },
    options: { ...options, ...lookOf(parts, partOf, options), isPart: (id) => parts.get(id).length > 1 },
  };
}

/** Return the nodes of each part by its name. */
function partsOf(topology) {
  const layerOf = layersOf(topology);
  const hidden = Math.max(...layerOf.values()) - 1; // the last layer holds the output alone
  const groups = new Map();
  for (const { id } of topology.nodes) {
    const layer = layerOf.get(id);
    const group = layer > hidden ? MAX_PARTS : Math.floor(((layer - 1) * Math.min(MAX_PARTS, hidden)) / hidden);
    if (!groups.has(group)) groups.set(group, { nodes: [], layers: new Set() });
    groups.get(group).nodes.push(id);
    groups.get(group).layers.add(layer);
  }
  return new Map([...groups.values()].map(({ nodes, layers }) => [nodes.length === 1 ? nodes[0] : nameOf([...layers], nodes.length), nodes]));
}

function nameOf(layers, count) {
  const [first, last] = [Math.min(...layers), Math.max(...layers)];
  return `${first === last ? `layer ${first}` : `layers ${first}–${last}`}: ${count} nodes`;
}

function lookOf(parts, partOf, { captions = {}, shades = {}, kinds = {}, titles = {}, texts = {}, weights = {}, selected }) {
  const each = (values, merge) => Object.fromEntries([...parts].map(([part, nodes]) => [part, merge(nodes.map((node) => values[node]).filter((value) => value !== undefined), nodes)])
    .filter(([, value]) => value !== undefined));
  const ofOne = (values, nodes) => (nodes.length === 1 ? values[0] : undefined);
  const heavy = {};
  for (const [edge, weight] of Object.entries(weights)) {
    const ends = edge.split(" -> ").map((node) => partOf.get(node)).join(" -> ");
    heavy[ends] = Math.max(heavy[ends] ?? 0, weight);
  }
  return {
    captions: each(captions, ofOne),
    texts: each(texts, ofOne),
    shades: each(shades, (values) => (values.length ? Math.max(...values) : undefined)),
    kinds: each(kinds, (values) => ["bad", "new"].find((kind) => values.includes(kind)) ?? values[0]),
    titles: Object.fromEntries([...parts].map(([part, nodes]) => [part, titleOf(nodes.map((node) => titles[node] || node))])),
    weights: heavy,
    selected: partOf.get(selected),
  };
}

function titleOf(lines) {
  const more = lines.length - MAX_TITLES;
  return more > 0 ? [...lines.slice(0, MAX_TITLES), `and ${more} more`].join("\n") : lines.join("\n");
}
