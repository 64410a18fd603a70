// A table that fits phones, and that screen readers name.

import { h } from "./dom.js";

/**
 * Return a table; `columns` are names, a name that begins with # is of numbers.
 *
 * On phones it scrolls sideways, or, `stacked`, its rows stand one below the other.
 */
export function table(caption, columns, rows, { stacked = false } = {}) {
  const heads = columns.map((name) => h("th", { scope: "col", class: name.startsWith("#") && "number" }, name.replace(/^#/, "")));
  const body = rows.map((row) => h("tr", {}, row.map((cell, place) => h("td", { class: columns[place].startsWith("#") && "number",
    "data-column": columns[place].replace(/^#/, "") }, cell))));
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption },
    h("table", { class: stacked && "stacked" }, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body)));
}
