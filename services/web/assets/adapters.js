// The list of adapters that people have brought along, to see what is there and to delete what is not needed.

import { get, remove } from "./api.js";
import { announce, h, put } from "./dom.js";
import { bytes, count } from "./format.js";
import { confirmed, emptyPlace, loaded, pageHead, problemPanel } from "./parts.js";
import { table } from "./table.js";

const PAGE = 500;

/** Return the page of all adapters of this key, or its project. */
export function adaptersPage() {
  const trouble = h("div", {});
  const place = loaded(async () => {
    const found = await all();
    return found.length ? h("section", { class: "card" }, list(found, (one) => drop(one, place, trouble))) : nothing();
  });
  return { element: h("div", {}, pageHead("NeuroMAS", "Adapters",
    h("p", { class: "about" }, "Adapters that were made elsewhere and brought along; runs may begin with them.")), trouble, place),
  title: "Adapters", close: () => {} };
}

async function all() {
  const found = [];
  for (let page = null; page === null || page.has_more;) {
    const query = new URLSearchParams({ limit: PAGE });
    if (page) query.set("after", page.last_id);
    page = await get(`/v1/adapters?${query}`);
    found.push(...page.data);
  }
  return found;
}

function nothing() {
  return emptyPlace("No adapters yet",
    h("p", {}, "A new run can bring the folders along that PEFT has saved, one for each of its nodes."),
    h("a", { class: "button main", href: "#/new" }, "New run"),
    h("p", {}, "Or from a shell: ", h("code", {}, "neuromas runs import SPEC FOLDER")));
}

function list(adapters, onDelete) {
  return table("Adapters", ["name", "method", "#tensors", "#size", "do"], adapters.map((one) => [
    [h("strong", {}, one.name), one.missing.length > 0 && h("small", { class: "bad" }, `lacks ${one.missing.join(" and ")}`)],
    one.method || "–", count(one.tensors), bytes(one.bytes),
    h("div", { class: "tools" }, h("button", { type: "button", class: "small danger", "aria-label": `Delete ${one.name}`,
      onclick: () => onDelete(one) }, "Delete"))]), { stacked: true });
}

async function drop({ name }, place, trouble) {
  const isSure = await confirmed({ title: "Delete this adapter?", action: "Delete it",
    text: `${name}: its files are removed for good. Runs that have imported it keep what they made of it.` });
  if (!isSure) return;
  put(trouble);
  try {
    await remove(`/v1/adapters/${encodeURIComponent(name)}`);
    announce(`Adapter ${name} deleted`);
  } catch (error) {
    put(trouble, problemPanel(error));
  }
  await place.reload();
  document.querySelector("h1").focus({ preventScroll: true }); // the button that had the focus is gone
}
