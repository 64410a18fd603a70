// Adapters that were made elsewhere: files for each of a graph's, and how they begin a run.

import { putFile } from "./api.js";
import { announce, h, put } from "./dom.js";
import { labelled, numberIn } from "./labelled.js";

const FILES = ["adapter_config.json", "adapter_model.safetensors"];
const MAX_NAME = 63;
/** Graphs with more adapters are imported over the API. */
const MAX_ROWS = 64;

/** The part of a run's form that gives its nodes adapters; without files it asks for nothing. */
export class ImportForm {
  constructor() {
    this.rows = new Map(); // adapter -> labelled input
    this.place = h("div", { class: "fields" });
    this.fault = h("p", { class: "fault", role: "alert" });
    this.error = labelled("Largest error", h("input", { type: "number", min: 0, max: 1, step: "any", value: 0.05 }),
      "Of a layer, ||dW - B A|| / ||dW||, where an adapter is no LoRA of this rank.");
    this.train = h("input", { type: "checkbox" });
    this.element = h("details", {}, h("summary", {}, "Begin with adapters made elsewhere"),
      h("p", { class: "note" }, "A folder that PEFT has saved, for each node that shall begin with one: choose both of its files, ",
        FILES.map((name, place) => [place ? " and " : "", h("code", {}, name)]), ". They count with the files that you have brought along."),
      this.place, this.fault, h("div", { class: "fields" }, this.error,
        labelled("Train on from them", this.train, "Else the run ends once it has a checkpoint with them, to be served, measured or grown.")));
  }

  /** Have a place for each adapter of a graph; those that are there already keep their files. */
  show(topology) {
    const names = [...new Set(topology.nodes.map((node) => node.adapter || node.id))];
    const shown = names.length > MAX_ROWS ? [] : names;
    this.rows = new Map(shown.map((name) => [name, this.rows.get(name) || row(name)]));
    put(this.place, shown.length ? [...this.rows.values()] : h("p", { class: "hint" }, "So many adapters are imported over the API."));
  }

  get chosen() {
    return [...this.rows].filter(([, field]) => field.input.files.length);
  }

  /** Whether any node shall begin with an adapter. */
  get isUsed() {
    return this.chosen.length > 0;
  }

  /**
   * Bring the files along and return what the request says beside the spec; null where one was refused, which is said
   * beside it.
   */
  async bring(run) {
    this.clearFaults();
    const adapters = {};
    for (const [adapter, field] of this.chosen) {
      const whole = `${run}.${adapter}`;
      adapters[adapter] = whole.length > MAX_NAME ? adapter : whole;
      for (const file of field.input.files) {
        announce(`Bringing ${file.name} of ${adapter} along`);
        try {
          await putFile(`/v1/adapters/${adapters[adapter]}/${encodeURIComponent(file.name)}`, file);
        } catch (error) {
          field.setFault(error.faults && error.faults.length ? error.faults[0].message : error.message);
          field.input.focus();
          return null;
        }
      }
    }
    return { adapters, max_error: numberIn(this.error.input), train: this.train.checked };
  }

  /** Show what is wrong beside the fields, and go to the first; returns the faults that belong to none of them. */
  showFaults(faults) {
    const found = [];
    const rest = faults.filter(({ path, message }) => {
      const field = path === "max_error" ? this.error : this.rows.get(path.replace(/^adapters\./, ""));
      if (field) {
        field.setFault(message);
        found.push(field);
      } else if (path === "adapters") put(this.fault, message);
      return !field && path !== "adapters";
    });
    if (rest.length < faults.length) this.element.open = true;
    if (found.length) found[0].input.focus();
    return rest;
  }

  clearFaults() {
    put(this.fault);
    this.error.setFault("");
    for (const field of this.rows.values()) field.setFault("");
  }
}

function row(adapter) {
  return labelled(`Adapter of ${adapter}`, h("input", { type: "file", multiple: true, accept: ".json,.safetensors" }));
}
