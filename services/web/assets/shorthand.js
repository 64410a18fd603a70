// Graphs as people type them: a form with its numbers ("layers 2 2", "tree 3"), edges ("a, b -> c -> out"), or JSON.

import { JsonFault, lineOf, offsetOf, parseJson } from "./jsontext.js";

const COUNTED = ["chain", "star", "dense"];
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** Why a text is no graph: `line` is from 1, null where it is the whole. */
export class TextFault extends Error {
  constructor(message, line = null) {
    super(message);
    this.line = line;
  }
}

/**
 * Return what a text says: `document`, the topology or run spec to send; and `line(path)`, the line of a path in it.
 *
 * Throws TextFault.
 */
export function readGraph(text) {
  if (!text.trim()) throw new TextFault("Describe a graph, or begin with an example.");
  return text.trim().startsWith("{") ? readJson(text) : readLines(text);
}

/** Return the lines of a JSON text with its value; as `readGraph`. */
export function readJson(text) {
  let parsed;
  try {
    parsed = parseJson(text);
  } catch (error) {
    if (error instanceof JsonFault) throw new TextFault(`not JSON: ${error.message}`, lineOf(text, error.offset));
    throw error;
  }
  return { document: parsed.value, line: (path) => lineOf(text, offsetOf(parsed.places, path)) };
}

function readLines(text) {
  const lines = text.split("\n").map((content, index) => ({ content: content.replace(/#.*/, "").trim(), number: index + 1 }))
    .filter((line) => line.content);
  if (!lines.length) throw new TextFault("Describe a graph, or begin with an example.");
  const isEdges = lines.some((line) => line.content.includes("->"));
  if (isEdges) return readEdges(lines);
  if (lines.length > 1) throw new TextFault("a shorthand is one line; for edges write a -> b", lines[1].number);
  return { document: readForm(lines[0]), line: () => lines[0].number };
}

function readForm({ content, number }) {
  const [word, ...rest] = content.split(/[\s,:=[\]]+/).filter(Boolean);
  const values = rest.map(Number);
  const fail = (message) => { throw new TextFault(message, number); };
  if (!values.length || values.some((value) => !Number.isFinite(value))) {
    fail(`got ${JSON.stringify(content)}; expected a form with its numbers, such as layers 2 2, or edges such as a -> b`);
  }
  if (COUNTED.includes(word)) return values.length === 1 ? { [word]: values[0] } : fail(`${word} takes one number`);
  switch (word) {
    case "layers": return { layers: values };
    case "tree": return { tree: values.length > 1 ? { depth: values[0], branching: values[1] } : { depth: values[0] } };
    case "random": return { random: { nodes: values[0], ...(values.length > 1 ? { edge_probability: values[1] } : {}), ...(values.length > 2 ? { seed: values[2] } : {}) } };
    default: return fail(`got ${JSON.stringify(word)}; allowed are layers, chain, tree, star, dense, random`);
  }
}

function readEdges(lines) {
  const nodes = new Map();
  const edges = new Map();
  for (const { content, number } of lines) {
    for (const part of content.split(";").filter((piece) => piece.trim())) {
      const groups = part.split("->").map((group) => group.split(",").map((name) => name.trim()));
      for (const name of groups.flat()) {
        if (!NAME.test(name)) throw new TextFault(`got ${JSON.stringify(name)} as a node; write a, b -> c`, number);
        if (!nodes.has(name)) nodes.set(name, number);
      }
      groups.slice(1).forEach((targets, place) => {
        for (const source of groups[place]) for (const target of targets) edges.set(`${source} ${target}`, [[source, target], number]);
      });
    }
  }
  const names = [...nodes.keys()];
  const pairs = [...edges.values()];
  const line = (path) => {
    const [, list, place] = /^(nodes|edges)\[(\d+)\]/.exec(path) || [];
    if (list === "nodes") return nodes.get(names[Number(place)]);
    return list === "edges" ? pairs[Number(place)]?.[1] : lines[0].number;
  };
  return { document: { nodes: names.map((id) => ({ id })), edges: pairs.map(([pair]) => pair) }, line };
}
