// Fills the drawings of a report: each place holds what is drawn there as JSON.

import { Chart } from "./chart.js";
import { put } from "./dom.js";
import { drawGraph } from "./graph.js";
import { ZoomPane } from "./zoom.js";

const KINDS = {
  chart({ series, marks, ...options }) {
    const chart = new Chart(options);
    chart.update(series, marks);
    return chart.element;
  },
  graph({ topology, label, ...options }) {
    const pane = new ZoomPane(label);
    pane.show(drawGraph(topology, { ...options, label }));
    return pane.element;
  },
};

for (const place of document.querySelectorAll(".drawn")) {
  const data = JSON.parse(place.querySelector("script").textContent);
  put(place, KINDS[place.dataset.kind](data));
}
