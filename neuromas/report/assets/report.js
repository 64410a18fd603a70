// Fills the drawings of a report: each place holds what is drawn there as JSON.

import { analysisTables } from "./analysis.js";
import { Chart } from "./chart.js";
import { diagnosisTables } from "./diagnosis.js";
import { put } from "./dom.js";
import { drawGraph } from "./graph.js";
import { nodeColor } from "./plot.js";
import { Questions } from "./questions.js";
import { findAmong, RolloutList } from "./rollouts.js";
import { ZoomPane } from "./zoom.js";

const KINDS = {
  analysis: analysisTables,
  diagnosis: diagnosisTables,
  chart({ series, marks, ...options }) {
    const chart = new Chart(options);
    chart.update(series.map(inColor), marks);
    return chart.element;
  },
  graph({ topology, label, ...options }) {
    const pane = new ZoomPane(label);
    pane.show(drawGraph(topology, { ...options, label }));
    return pane.element;
  },
  questions({ entries, graphs }) {
    const questions = new Questions((stage) => graphs[stage] || null, promptOf);
    questions.show(entries);
    return questions.element;
  },
  rollouts({ entries, graphs }) {
    const list = new RolloutList({ find: findAmong(entries), topologyOf: (stage) => graphs[stage] || null, tell: console.error, promptOf });
    list.begin();
    return list.element;
  },
};

/** Return what gives the prompt of a message, null where the report does not hold it. */
function promptOf(rollout, { prompt }) {
  return prompt === undefined ? null : async () => prompt;
}

/** Return a series in the colour of its rank, where it has one. */
function inColor({ rank, ...series }) {
  return rank ? { ...series, color: nodeColor(...rank) } : series;
}

for (const place of document.querySelectorAll(".drawn")) {
  const data = JSON.parse(place.querySelector("script").textContent);
  put(place, KINDS[place.dataset.kind](data));
}
