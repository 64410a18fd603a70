// The page where the API key is entered. It is kept for this tab only.

import { capabilities, forgetCapabilities, key } from "./api.js";
import { announce, h, put, say } from "./dom.js";
import { clearFaults, labelled } from "./labelled.js";
import { card, pageHead, problemPanel } from "./parts.js";

/** Return the page of the key; `reason` is why it is shown, `onDone` is called when a key works. */
export function keyPage({ reason = "", onDone = () => { location.hash = "#/runs"; } } = {}) {
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "nmk_…", value: key.get() });
  const state = h("p", { class: "note", role: "status" }, key.get() ? "A key is set for this tab." : "No key is set.");
  const field = labelled("API key", input);
  const trouble = h("div", {});
  const save = async (event) => {
    event.preventDefault();
    put(trouble);
    clearFaults([field]);
    const wanted = input.value.trim();
    const before = key.get();
    key.set(wanted);
    forgetCapabilities();
    try {
      const offer = await capabilities();
      window.dispatchEvent(new CustomEvent("key-changed"));
      say(state, wanted ? "The key works." : offer.keys_required ? "" : "This service needs no key.");
      announce(state.textContent);
      onDone();
    } catch (error) {
      if (error.status === 401 && before !== wanted) key.set("");
      window.dispatchEvent(new CustomEvent("key-changed"));
      if (error.status === 401) field.setFault(error.message);
      else put(trouble, problemPanel(error));
      input.focus();
    }
  };
  const forget = () => {
    key.set("");
    input.value = "";
    forgetButton.hidden = true;
    forgetCapabilities();
    window.dispatchEvent(new CustomEvent("key-changed"));
    say(state, "The key is forgotten.");
    input.focus();
  };
  const forgetButton = h("button", { type: "button", onclick: forget, hidden: !key.get() }, "Forget it");
  const element = h("div", {}, pageHead("NeuroMAS", "API key", reason && h("p", { class: "about" }, reason)),
    card("Key", { note: ["Kept in this tab until it is closed, and sent to this server only. ", h("code", {}, "neuromas keys create"),
      " makes one; what it may do depends on its scopes: read, train, serve."] },
      h("form", { novalidate: true, onsubmit: save }, field, state, trouble,
        h("div", { class: "actions" }, forgetButton, h("button", { type: "submit", class: "main" }, "Use this key")))));
  return { element, title: "API key", close: () => {} };
}
