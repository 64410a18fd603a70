// The family tree of grown runs.

import { get } from "./api.js";
import { h } from "./dom.js";
import { percent, planWords, plural } from "./format.js";
import { card, loaded, stateChip } from "./parts.js";

/** Return the panel of a run's family. */
export function lineagePanel(run) {
  const place = loaded(async () => {
    const lineage = await get(`/v1/runs/${run.id}/lineage`);
    const isAlone = !lineage.root.children.length && !run.parent;
    return [
      isAlone && h("p", { class: "note" }, "Not grown yet. Growing makes a new run from a checkpoint: a wider or deeper graph that begins with what this one has learned."),
      !isAlone && h("ul", { class: "family" }, branch(lineage.root, run.id)),
      lineage.truncated && h("p", { class: "note" }, "The tree has more runs than are shown."),
    ];
  });
  return card("Lineage", { tools: [h("a", { class: "button small", href: `#/runs/${run.id}/grow` }, "Grow this run")] }, place);
}

function branch(run, current) {
  const isHere = run.id === current;
  const name = isHere ? h("strong", { "aria-current": "true" }, run.name) : h("a", { href: `#/runs/${run.id}` }, run.name);
  const figures = [plural(run.nodes, "node"), run.accuracy === null ? null : `${percent(run.accuracy)} right`,
    run.plan && planWords(run.plan)].filter(Boolean).join(", ");
  return h("li", {}, h("div", { class: isHere ? "kin here" : "kin" }, name, stateChip(run.state), h("span", { class: "about" }, figures)),
    run.children.length > 0 && h("ul", {}, run.children.map((child) => branch(child, current))));
}
