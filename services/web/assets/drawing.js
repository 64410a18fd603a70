// Drawings that the server sends as SVG text: parsed apart from the page, and only what is known to be harmless is
// built anew. Style elements are left out; drawing.css has the rules.

import { svg } from "./dom.js";

const ELEMENTS = new Set(["svg", "g", "defs", "marker", "path", "rect", "circle", "line", "text", "title"]);
const ATTRIBUTES = new Set(["class", "role", "aria-label", "width", "height", "viewBox", "d", "x", "y", "x1", "x2", "y1",
  "y2", "cx", "cy", "r", "rx", "id", "refX", "refY", "markerWidth", "markerHeight", "markerUnits", "orient", "fill",
  "stroke-width", "fill-opacity", "font-family", "font-size"]);
const MARKER = "url(#neuromas-arrow)";
const MAX_DEPTH = 8;

/** Return a server's drawing as an element of this page; null where the text is no SVG. */
export function readDrawing(text) {
  // Taken out before parsing: the page's policy, which the parser keeps to as well, would complain about each.
  const plain = text.replace(/<style\b[^>]*>[^]*?<\/style>/g, "");
  const parsed = new DOMParser().parseFromString(plain, "image/svg+xml");
  const root = parsed.documentElement;
  if (root.localName !== "svg" || parsed.querySelector("parsererror")) return null;
  const drawing = copy(root, 0);
  drawing.style.setProperty("--full", `${Number(root.getAttribute("width")) || 0}px`);
  return drawing;
}

function copy(source, depth) {
  if (!ELEMENTS.has(source.localName) || depth > MAX_DEPTH) return null;
  const made = svg(source.localName);
  for (const { name, value } of source.attributes) if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
  if (source.getAttribute("marker-end") === MARKER) made.setAttribute("marker-end", MARKER);
  for (const child of source.childNodes) {
    if (child.nodeType === Node.TEXT_NODE && child.data.trim()) made.append(child.data);
    if (child.nodeType === Node.ELEMENT_NODE) made.append(copy(child, depth + 1) ?? "");
  }
  return made;
}
