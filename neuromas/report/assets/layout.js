// Where to draw a graph's nodes: layers from left to right, edges over several layers on lanes of their own, few
// crossings. The same plan as neuromas/topology/layout.py makes for reports.

const SWEEPS = 4;

/**
 * Return the plan of a topology document: `layers`, each a list of spots `{node, layer, row, isLane}` from top to
 * bottom; `spot(node, layer)`; and per node its `layer`. Rows are whole numbers, spots of a layer at least 2 apart.
 */
export function layOut(topology) {
  const layerOf = layersOf(topology);
  const depth = Math.max(...layerOf.values());
  const spots = new Map();
  const spot = (node, layer) => {
    const name = `${layer} ${node}`;
    if (!spots.has(name)) spots.set(name, { node, layer, row: 0, isLane: layer !== layerOf.get(node) });
    return spots.get(name);
  };
  const layers = Array.from({ length: depth }, () => []);
  for (const { id } of topology.nodes) layers[layerOf.get(id) - 1].push(spot(id, layerOf.get(id)));
  const links = linksOf(topology, layerOf, spot, depth);
  links.forEach((pairs, gap) => {
    for (const [, target] of pairs) if (!layers[gap + 1].includes(target)) layers[gap + 1].push(target);
  });
  uncross(layers, links);
  setRows(layers, links);
  return { layers, layerOf, spot, rows: Math.max(...layers.flat().map((one) => one.row)) + 1 };
}

/** Return the nodes that each node reads. */
export function sendersOf(topology) {
  const senders = new Map(topology.nodes.map(({ id }) => [id, []]));
  for (const [source, target] of topology.edges || []) senders.get(target).push(source);
  return senders;
}

/** Return the layer of each node, from 1: one more than the last layer that it reads. */
export function layersOf(topology) {
  const senders = sendersOf(topology);
  const layers = new Map();
  const layerOf = (node) => {
    if (!layers.has(node)) layers.set(node, 1 + Math.max(0, ...senders.get(node).map(layerOf)));
    return layers.get(node);
  };
  for (const { id } of topology.nodes) layerOf(id);
  return layers;
}

function linksOf(topology, layerOf, spot, depth) {
  const links = Array.from({ length: depth - 1 }, () => []);
  const readers = new Map(topology.nodes.map(({ id }) => [id, []]));
  for (const [source, target] of topology.edges || []) readers.get(source).push(target);
  for (const { id } of topology.nodes) {
    const last = Math.max(0, ...readers.get(id).map((reader) => layerOf.get(reader)));
    for (let layer = layerOf.get(id); layer < last; layer += 1) {
      const here = spot(id, layer);
      const next = readers.get(id).filter((reader) => layerOf.get(reader) === layer + 1);
      links[layer - 1].push(...next.map((reader) => [here, spot(reader, layer + 1)]));
      if (layer + 1 < last) links[layer - 1].push([here, spot(id, layer + 1)]);
    }
  }
  return links;
}

// Sorts each layer by the mean place of what its spots are joined to, forwards and backwards in turn.
function uncross(layers, links) {
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    links.forEach((pairs, gap) => sort(layers[gap + 1], layers[gap], pairs.map(([a, b]) => [b, a])));
    [...links].reverse().forEach((pairs, index) => {
      const gap = links.length - 1 - index;
      sort(layers[gap], layers[gap + 1], pairs);
    });
  }
}

function sort(layer, beside, pairs) {
  const place = new Map(beside.map((spot, index) => [spot, index]));
  const mean = means(layer, pairs.map(([one, other]) => [one, place.get(other)]));
  layer.sort((a, b) => mean.get(a) - mean.get(b));
}

function setRows(layers, links) {
  layers[0].forEach((spot, index) => { spot.row = 2 * index; });
  links.forEach((pairs, gap) => {
    const layer = layers[gap + 1];
    const wanted = means(layer, pairs.map(([source, target]) => [target, source.row]));
    spread(layer.map((spot) => wanted.get(spot))).forEach((row, index) => { layer[index].row = row; });
  });
  const top = Math.min(...layers.flat().map((spot) => spot.row));
  for (const spot of layers.flat()) spot.row -= top;
}

// Rows at least 2 apart, in order, nearest to the wanted ones: neighbours that would collide share a pool.
function spread(wanted) {
  const pools = [];
  wanted.forEach((height, index) => {
    pools.push([height - 2 * index]);
    while (pools.length > 1 && mean(pools[pools.length - 2]) >= mean(pools[pools.length - 1])) {
      const last = pools.pop();
      pools[pools.length - 1].push(...last);
    }
  });
  const offsets = pools.flatMap((pool) => pool.map(() => Math.floor(mean(pool))));
  return offsets.map((offset, index) => offset + 2 * index);
}

function means(layer, values) {
  const found = new Map(layer.map((spot) => [spot, []]));
  for (const [spot, value] of values) found.get(spot).push(value);
  return new Map([...found].map(([spot, listed]) => [spot, mean(listed)]));
}

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0;
}
