// An input with its label, a hint, and a place for what is wrong with it.

import { freshId, h, say } from "./dom.js";

/** What stands for a text in a field of numbers that is none: the browser does not tell the text. */
export const NO_NUMBER = "no number";

/** Return a label above an input, with a hint and a place for what is wrong with it. */
export function labelled(label, input, hint = "") {
  const id = input.id || freshId("field");
  input.id = id;
  const fault = h("p", { class: "fault", id: `${id}-fault` });
  const note = hint && h("p", { class: "hint", id: `${id}-hint` }, hint);
  input.setAttribute("aria-describedby", note ? `${id}-hint ${id}-fault` : `${id}-fault`);
  const element = h("div", { class: "field" }, h("label", { for: id }, label), input, note, fault);
  element.input = input;
  element.setFault = (message) => {
    say(fault, message || "");
    input.setAttribute("aria-invalid", String(Boolean(message)));
  };
  return element;
}

/** Return the number that an input holds, null where it is empty, and where a browser reads none, words for the server to refuse. */
export function numberIn(input) {
  if (input.validity.badInput) return NO_NUMBER;
  return input.value === "" ? null : input.valueAsNumber;
}

/**
 * Say an error beside the labelled inputs that it is about, by their names, and go to the first of them.
 *
 * Returns whether each of its faults has a place.
 */
export function placeFaults(fields, error) {
  const faults = error.faults && error.faults.length ? error.faults : [{ path: error.param || "", message: error.message }];
  const found = faults.map(({ path, message }) => {
    const field = fields.find(({ input }) => input.name && path.split(/[.[]/)[0] === input.name);
    if (field) field.setFault(message);
    return field;
  });
  const first = fields.find((field) => found.includes(field));
  if (first) first.input.focus();
  return found.every(Boolean);
}

/** Take away what is said beside labelled inputs. */
export function clearFaults(fields) {
  for (const field of fields) field.setFault("");
}
