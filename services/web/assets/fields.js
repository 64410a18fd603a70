// Form fields made from the JSON schema of a run spec, so that what the service learns to do needs no change here.

import { h } from "./dom.js";
import { labelled, NO_NUMBER } from "./labelled.js";

/** Return the schema that a reference of a document's schema means. */
export function resolve(schema, defs) {
  return schema.$ref ? { ...defs[schema.$ref.split("/").pop()], ...without(schema, "$ref") } : schema;
}

/** Return the variants of a union by their tag, e.g. "chain" -> schema of that task. */
export function variants(schema, defs) {
  const { mapping, propertyName } = schema.discriminator;
  return { tag: propertyName, byTag: new Map(Object.entries(mapping).map(([tag, ref]) => [tag, resolve({ $ref: ref }, defs)])) };
}

/**
 * The fields of some properties of an object's schema.
 *
 * `element` holds them; `value` is what they say now, keys that are as `usual` or else as their default left out;
 * `setFault(path, message)` says what is wrong beside the field of a path below `base`, and whether there is one.
 */
export class Fields {
  constructor(schema, defs, { base = "", only = null, skip = [], given = {}, usual = {}, labels = {}, onChange = () => {} } = {}) {
    this.base = base;
    const names = only || Object.keys(schema.properties).filter((name) => !skip.includes(name));
    const required = schema.required || [];
    this.fields = names.map((name) => new Field(name, resolve(schema.properties[name], defs), {
      value: given[name], usual: usual[name], label: labels[name], isRequired: required.includes(name), onChange,
    }));
    this.element = h("div", { class: "fields" }, this.fields.map((field) => field.element));
  }

  get value() {
    return Object.fromEntries(this.fields.filter((field) => field.isGiven).map((field) => [field.name, field.value]));
  }

  setFault(path, message) {
    const field = this.fields.find(({ name }) => path === this.base + name || path.startsWith(`${this.base}${name}.`)
      || path.startsWith(`${this.base}${name}[`));
    if (field) field.element.setFault(message);
    return Boolean(field);
  }

  clearFaults() {
    for (const field of this.fields) field.element.setFault("");
  }
}

class Field {
  constructor(name, schema, { value, usual, label, isRequired, onChange }) {
    this.name = name;
    this.schema = plain(schema);
    this.isRequired = isRequired;
    this.fallback = usual === undefined ? schema.default : usual;
    this.input = inputFor(this.schema, value === undefined ? schema.default : value);
    this.input.addEventListener("input", onChange);
    this.input.name = name;
    this.element = labelled(label || words(name), this.input, hintOf(schema));
  }

  get isGiven() {
    if (this.isRequired) return true;
    const { value } = this;
    return value !== null && JSON.stringify(value) !== JSON.stringify(this.fallback ?? null);
  }

  get value() {
    if (this.schema.type === "boolean") return this.input.checked;
    const text = this.input.validity.badInput ? NO_NUMBER : this.input.value.trim();
    if (!text) return this.schema.type === "string" && this.fallback !== null ? "" : null;
    return readValue(text, this.schema);
  }
}

/** Return text as the value that a schema wants; what cannot be read is sent as it is, for the server to refuse. */
export function readValue(text, schema) {
  if (schema.type === "integer" || schema.type === "number") {
    const value = Number(text);
    return Number.isFinite(value) ? value : text;
  }
  if (schema.type === "array") {
    const items = text.split(",").map((item) => item.trim()).filter(Boolean);
    const inner = schema.items || {};
    if (inner.type === "array") return items.map((item) => item.split(/\s*(?:->|→|\s)\s*/));
    return items.map((item) => readValue(item, inner));
  }
  return text;
}

function inputFor(schema, value) {
  if (schema.enum) {
    return h("select", {}, schema.enum.map((option) => h("option", { value: option, selected: option === value }, option)));
  }
  if (schema.type === "boolean") return h("input", { type: "checkbox", checked: value === true });
  if (schema.type === "integer" || schema.type === "number") {
    const step = schema.type === "integer" ? 1 : "any";
    return h("input", { type: "number", inputmode: schema.type === "integer" ? "numeric" : "decimal", step,
      min: schema.minimum, max: schema.maximum, value: value ?? null });
  }
  const shown = Array.isArray(value) ? value.map((item) => (Array.isArray(item) ? item.join(" -> ") : item)).join(", ") : value;
  return h("input", { type: "text", value: shown ?? null, autocomplete: "off", spellcheck: "false",
    placeholder: schema.type === "array" && schema.items && schema.items.type === "array" ? "a -> c, b -> c" : null });
}

/** Return a schema without the null that it also takes. */
function plain(schema) {
  if (!schema.anyOf) return schema;
  return schema.anyOf.find((option) => option.type !== "null") || schema;
}

function hintOf(schema) {
  return (schema.description || "").replace(/\s+/g, " ").replaceAll("``", "").replaceAll("None", "empty");
}

function words(name) {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function without(object, name) {
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));
}
