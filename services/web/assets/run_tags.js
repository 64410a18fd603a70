// The tags of a run, and the dialog that changes them.

import { patch } from "./api.js";
import { announce, h, put } from "./dom.js";
import { labelled } from "./labelled.js";
import { askFor } from "./parts.js";

/** Return tags as words. */
export function tagList(tags) {
  return tags.map((tag) => h("span", { class: "alias" }, tag));
}

/** A line of tags with a button; `onChange` gets the run's new record. */
export class RunTags {
  constructor(path, onChange) {
    Object.assign(this, { path, onChange, tags: [] });
    this.words = h("span", {});
    this.element = h("p", { class: "tags" }, this.words,
      h("button", { type: "button", class: "small", onclick: () => this.ask() }, "Change tags"));
  }

  show(tags) {
    this.tags = tags;
    put(this.words, tags.length ? tagList(tags) : h("span", { class: "about" }, "No tags"));
  }

  ask() {
    const input = h("input", { type: "text", name: "tags", value: this.tags.join(" "), autocomplete: "off", spellcheck: "false" });
    askFor({ title: "Tags of the run", action: "Save",
      fields: [labelled("Tags", input, "Words to find it by, with a space between. Letters, digits and . _ : / @ + -")],
      submit: async () => {
        this.onChange(await patch(this.path, { tags: input.value.split(/[\s,]+/).filter(Boolean) }));
        announce("Tags saved");
      } });
  }
}
