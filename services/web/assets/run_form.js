// The form around a topology that makes it a run: task, base, adapters, training; and the rest as JSON.

import { post } from "./api.js";
import { h, put } from "./dom.js";
import { Fields, resolve, variants } from "./fields.js";
import { labelled } from "./labelled.js";
import { copyButton } from "./parts.js";
import { readJson } from "./shorthand.js";

const TRAINING = ["steps", "prompts_per_step", "group_size", "learning_rate"];
const LABELS = { prompts_per_step: "Examples per step", group_size: "Rollouts per example", steps: "Steps" };
// What the fields above the JSON say; the rest of a given spec goes there.
const SHOWN = { training: TRAINING, engine: ["type"], runtime: ["type"] };

/** The fields of a run spec beside its topology. */
export class RunForm {
  /** `capabilities` of the service; `given`, a run spec or part of one; `onChange()` is called when anything changes. */
  constructor(capabilities, given, onChange) {
    this.schema = capabilities.run_schema;
    this.defs = this.schema.$defs;
    this.onChange = onChange;
    this.general = this.fields(this.schema, "", { only: ["name", "seed"], given });
    this.base = h("input", { type: "text", list: "bases", value: given.base ?? this.schema.properties.base.default,
      autocomplete: "off", spellcheck: "false", oninput: onChange });
    this.baseField = labelled("Base", this.base, "The frozen model under all nodes.");
    const bases = h("datalist", { id: "bases" }, capabilities.bases.filter((name) => !name.endsWith("/...")).map((name) => h("option", { value: name })));
    this.task = this.variantPart("task", "Task", given, capabilities.tasks);
    this.adapter = this.variantPart("adapter", "Method", given, capabilities.adapters);
    this.training = this.section("training", TRAINING, given);
    this.engine = this.section("engine", ["type"], given, { type: "Engine" });
    this.runtime = this.section("runtime", ["type"], given, { type: "Runtime" });
    this.extra = h("textarea", { rows: 5, spellcheck: "false", autocomplete: "off", oninput: onChange,
      placeholder: '{"training": {"kl_weight": 0.01}}' });
    const rest = this.rest(given);
    this.extra.value = Object.keys(rest).length ? JSON.stringify(rest, null, 1) : "";
    this.extraField = labelled("More settings, as JSON", this.extra,
      "Any section of a run spec, such as growth, sampling or checkpoint; it goes over what the fields say.");
    this.groups = [this.general, this.training, this.engine, this.runtime];
    const part = (title, ...content) => h("fieldset", {}, h("legend", {}, title), content);
    this.element = h("div", { class: "run-form" },
      part("Run", h("div", { class: "fields" }, this.general.element, this.baseField), bases),
      part("Task", this.task.element, this.upload()),
      part("Training", this.training.element),
      part("Adapters", this.adapter.element),
      part("Machine", h("div", { class: "fields" }, this.engine.element, this.runtime.element)),
      h("details", { open: Boolean(this.extra.value) }, h("summary", {}, "More settings"), this.extraField));
  }

  fields(schema, base, options) {
    return new Fields(schema, this.defs, { base, labels: LABELS, onChange: this.onChange, ...options });
  }

  /** Return what brings a file of examples to the service; its path is then what the task's fields hold. */
  upload() {
    const told = h("p", { class: "hint", role: "status" }, "One JSON object a line, such as ",
      h("code", {}, '{"question": "1 + 1 =", "answer": "2"}'), ". The path appears here; put it into train or test of a file task.");
    const input = h("input", { type: "file", accept: ".jsonl", onchange: async () => {
      const [file] = input.files;
      if (!file) return;
      field.setFault("");
      try {
        const kept = await post("/v1/files", { name: file.name, content: await file.text() });
        put(told, `${kept.examples} examples: `, h("code", {}, kept.path), " ", copyButton(kept.path, "Copy the path"));
      } catch (error) {
        field.setFault(error.faults && error.faults.length ? error.faults[0].message : error.message);
      }
    } });
    const field = labelled("Bring a file of examples", input);
    return h("div", {}, field, told);
  }

  section(name, only, given, labels = LABELS) {
    return this.fields(resolve(this.schema.properties[name], this.defs), `${name}.`, { only, given: given[name] || {}, labels });
  }

  /** Return a section that comes in variants: a choice of those offered, and the fields of the one chosen. */
  variantPart(name, label, whole, offered) {
    const section = this.schema.properties[name];
    const given = whole[name] || section.default || {};
    const { tag, byTag } = variants(section, this.defs);
    const place = h("div", { class: "part" });
    const choice = h("select", { onchange: () => { show({}); this.onChange(); } },
      [...byTag.keys()].filter((option) => offered.includes(option)).map((option) => h("option", { value: option, selected: option === given[tag] }, option)));
    const note = h("p", { class: "note" });
    const part = { fields: null, element: h("div", {}, note, h("div", { class: "fields" }, labelled(label, choice), place)) };
    const show = (values) => {
      const schema = byTag.get(choice.value);
      part.fields = this.fields(schema, `${name}.`, { skip: [tag], given: values });
      note.textContent = schema.description.replaceAll("``", "");
      put(place, part.fields.element);
    };
    Object.defineProperty(part, "value", { get: () => ({ [tag]: choice.value, ...part.fields.value }) });
    show(given);
    return part;
  }

  /**
   * Return the run spec of the fields around a topology.
   *
   * Throws TextFault: the JSON cannot be read.
   */
  spec(topology) {
    const sections = { adapter: this.adapter.value, training: this.training.value, engine: this.engine.value, runtime: this.runtime.value };
    const filled = Object.fromEntries(Object.entries(sections).filter(([, value]) => Object.keys(value).length));
    const base = this.base.value.trim();
    const spec = { ...this.general.value, topology, task: this.task.value, ...(base ? { base } : {}), ...filled };
    const extra = this.extra.value.trim() ? readJson(this.extra.value).document : {};
    return merged(spec, extra);
  }

  /** Show what is wrong, beside the fields; returns the faults that belong to none of them. */
  showFaults(faults) {
    this.clearFaults();
    return faults.filter(({ path, message }) => {
      if (path === "base") {
        this.baseField.setFault(message);
        return false;
      }
      if ([...this.groups, this.task.fields, this.adapter.fields].some((group) => group.setFault(path, message))) return false;
      if (!this.extra.value.trim() || !path) return true;
      this.extraField.setFault(`${path}: ${message}`);
      return false;
    });
  }

  /** Say that the JSON of further settings cannot be read. */
  refuseExtra(error) {
    this.extraField.setFault(`line ${error.line}: ${error.message}`);
  }

  clearFaults() {
    this.baseField.setFault("");
    this.extraField.setFault("");
    for (const group of [...this.groups, this.task.fields, this.adapter.fields]) group.clearFaults();
  }

  /** Return what a given spec says beside what has a field, without what is the default anyway. */
  rest(given) {
    const found = {};
    for (const [name, value] of Object.entries(given)) {
      if (["name", "seed", "base", "topology", "task", "adapter"].includes(name)) continue;
      const schema = resolve(this.schema.properties[name] || {}, this.defs);
      const usual = schema.default;
      const part = isTable(value) ? differing(value, usual, SHOWN[name] || []) : value;
      if (isTable(part) ? Object.keys(part).length : JSON.stringify(part) !== JSON.stringify(usual)) found[name] = part;
    }
    return found;
  }
}

function differing(value, usual, skip) {
  const base = isTable(usual) ? usual : {};
  return Object.fromEntries(Object.entries(value).filter(([name, part]) => !skip.includes(name) && JSON.stringify(part) !== JSON.stringify(base[name])));
}

/** Return a table with another laid over it, table by table. */
export function merged(below, above) {
  const found = { ...below };
  for (const [name, value] of Object.entries(above)) {
    found[name] = isTable(found[name]) && isTable(value) ? merged(found[name], value) : value;
  }
  return found;
}

function isTable(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
