// Pieces that several pages are made of: states, errors, empty places, dialogs, tables.

import { freshId, h, put, say } from "./dom.js";
import { Problem } from "./api.js";
import { clearFaults, placeFaults } from "./labelled.js";

const STATE_WORDS = {
  queued: "waits for its turn", running: "is at work", paused: "is paused", succeeded: "has finished",
  failed: "has failed", cancelled: "was cancelled", deploying: "is being deployed", ready: "answers",
  stopped: "is stopped",
};

/** Return a state as a coloured word. */
export function stateChip(state, word = state) {
  return h("span", { class: `state ${state}`, title: STATE_WORDS[state] || state }, word);
}

/** Return whether the checkpoint that an endpoint answers with is still an earlier one. */
function isSwapping({ state, served, generation, error }) {
  return state === "ready" && served !== null && served !== generation && !error;
}

/** Return what an endpoint is doing: its state, or the way to another one. */
export function doing(endpoint) {
  if (endpoint.wanted === "stop" && !["stopped", "failed"].includes(endpoint.state)) return "stopping";
  return isSwapping(endpoint) ? "swapping" : endpoint.state;
}

/** Change a state's chip. */
export function setState(chip, state, word = state) {
  chip.className = `state ${state}`;
  chip.title = STATE_WORDS[state] || state;
  say(chip, word);
}

/** Return what went wrong, with every fault, and a button where trying again may help. */
export function problemPanel(error, retry = null) {
  const isOurs = error instanceof Problem;
  const faults = isOurs ? error.faults : [];
  const message = isOurs ? error.message : "this page broke; reload it";
  if (!isOurs) console.error(error);
  return h("div", { class: "problem", role: "alert" },
    h("strong", {}, faults.length > 1 ? "This is not valid" : sentence(message)),
    faults.length > 1 && h("ul", {}, faults.map((fault) => h("li", {}, fault.path && h("code", {}, fault.path), " ", fault.message))),
    error.retryAfter ? h("p", {}, `Try again in ${error.retryAfter} s.`) : null,
    isOurs && error.status === 403 ? h("p", {}, "The key that this page uses may not do this: ", h("a", { href: "#/key" }, "use another")) : null,
    retry && h("button", { type: "button", onclick: retry }, "Try again"));
}

/** Say whether what was checked is right, and put it in its colour. */
export function tellVerdict(verdict, isRight, text) {
  say(verdict, text);
  verdict.className = isRight ? "verdict-line right" : "verdict-line wrong";
}

/** Fill a list of facts with (name, value) pairs. */
export function putFacts(list, facts) {
  put(list, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Return a place that is empty, with what to do about it. */
export function emptyPlace(title, ...children) {
  return h("div", { class: "empty" }, h("strong", {}, title), children);
}

/** Return a card with a heading; `tools` stand beside it. */
export function card(title, { note = null, tools = null, wide = false } = {}, ...children) {
  const id = freshId("part");
  return h("section", { class: wide ? "card wide" : "card", "aria-labelledby": id },
    h("div", { class: "card-head" }, h("h2", { id }, title), tools && h("div", { class: "tools" }, tools)),
    note && h("p", { class: "note" }, note), children);
}

/** Return the heading of a page. */
export function pageHead(kicker, title, ...children) {
  return h("div", { class: "page-head" }, h("p", { class: "kicker" }, kicker), h("h1", { tabindex: -1 }, title), children);
}

/**
 * Replace what a page holds, its heading included.
 *
 * A focus on the page, or put on the place it is in when the page was opened, goes to the new heading: it would be
 * nowhere once what had it is gone. A focus elsewhere, such as on the bar on top, stays.
 */
export function putPage(element, ...children) {
  const focused = document.activeElement;
  const isHere = element.isConnected && (element.contains(focused) || element.parentElement === focused);
  put(element, ...children);
  if (isHere) element.querySelector("h1").focus({ preventScroll: true });
}

/** Return a place that fills with what `load` gives; shows what went wrong, and how to try again. */
export function loaded(load, waiting = "loading …") {
  const place = h("div", { class: "loaded" }, h("p", { class: "note" }, waiting));
  const turn = async () => {
    try {
      put(place, await load());
    } catch (error) {
      if (error.name !== "AbortError") put(place, problemPanel(error, turn));
    }
  };
  turn();
  place.reload = turn;
  return place;
}

/** Ask whether to go on; returns a promise of the answer. */
export function confirmed({ title, text, action, refuse = "Keep it" }) {
  return new Promise((resolve) => {
    const dialog = openDialog(title, h("p", {}, text), h("div", { class: "actions" },
      h("button", { type: "button", onclick: () => dialog.close("no") }, refuse),
      h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, action)));
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

/**
 * Ask for values in a dialog.
 *
 * `fields`: labelled inputs, each under the `name` that the request gives it. `submit()` does what is asked; what it
 * throws is shown, beside the field that it is about where there is one, and the dialog stays.
 */
export function askFor({ title, fields, action, submit }) {
  const trouble = h("div", {});
  const button = h("button", { type: "submit", class: "main" }, action);
  const work = async (event) => {
    event.preventDefault();
    button.disabled = true;
    put(trouble);
    clearFaults(fields);
    try {
      await submit();
      dialog.close();
    } catch (error) {
      if (!placeFaults(fields, error)) put(trouble, problemPanel(error));
    }
    button.disabled = false;
  };
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Back");
  const dialog = openDialog(title, h("form", { novalidate: true, onsubmit: work }, fields, trouble,
    h("div", { class: "actions" }, cancel, button)));
}

function openDialog(title, ...content) {
  const id = freshId("dialog");
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), content);
  const opener = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener && opener.isConnected) opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Return a button that copies a text. */
export function copyButton(text, label = "Copy") {
  const button = h("button", { type: "button", class: "small", onclick: async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      say(button, "Copied");
    } catch {
      say(button, "Select the text to copy it"); // the browser gives no clipboard to pages that are not secure
    }
    setTimeout(() => say(button, label), 2000);
  } }, label);
  return button;
}

/** Return a text as a sentence begins. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
