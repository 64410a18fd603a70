// What became of the adapters that a run begins with.

import { h, put } from "./dom.js";
import { number, plural } from "./format.js";
import { card } from "./parts.js";
import { table } from "./table.js";

/** A card of a run that imports adapters; hidden for others. */
export class ImportPanel {
  constructor() {
    this.place = h("div", {});
    this.element = card("Imported adapters", { note: "What was brought along, as the LoRA that a node begins with. The error is the largest of its layers, ||dW - B A|| / ||dW||." }, this.place);
    this.shown = "";
  }

  show({ imports, imported }) {
    this.element.hidden = !imports;
    const wanted = JSON.stringify([imports, imported]);
    if (!imports || wanted === this.shown) return;
    this.shown = wanted;
    const known = imported ? imported.adapters : {};
    const rows = Object.entries(imports.adapters).map(([adapter, name]) => {
      const found = known[adapter];
      return [adapter, name, found ? found.method : "not read yet", found ? String(found.rank) : "",
        found ? (found.error ? number(found.error, 3) : "exact") : "", found ? found.worst_layer : ""];
    });
    put(this.place, table("Imported adapters", ["adapter", "brought along as", "method", "#rank", "#error", "worst layer"], rows, { stacked: true }),
      imported && imported.fresh.length > 0 && h("p", { class: "hint" }, `${imported.fresh.join(", ")}: ${plural(imported.fresh.length, "adapter")} not given, as the base.`));
  }
}
