// The application: which page an address means, what is on top of every page, and where the focus goes.

import { announce, h, put, say } from "./dom.js";
import { adaptersPage } from "./adapters.js";
import { key } from "./api.js";
import { endpointsPage } from "./endpoints.js";
import { growPage } from "./grow.js";
import { keyPage } from "./key_page.js";
import { newRunPage } from "./new_run.js";
import { emptyPlace, pageHead, problemPanel } from "./parts.js";
import { endpointPage } from "./playground.js";
import { runPage } from "./run.js";
import { runsPage } from "./runs.js";

const ROUTES = [
  [/^\/runs$/, runsPage, "runs"],
  [/^\/runs\/([^/]+)$/, runPage, "runs"],
  [/^\/runs\/([^/]+)\/grow$/, growPage, "runs"],
  [/^\/new$/, newRunPage, "new"],
  [/^\/endpoints$/, endpointsPage, "endpoints"],
  [/^\/endpoints\/([^/]+)$/, endpointPage, "endpoints"],
  [/^\/adapters$/, adaptersPage, "adapters"],
  [/^\/key$/, keyPage, "key"],
];

const main = document.getElementById("main");
const offline = document.getElementById("offline");
const keyState = document.getElementById("key-state");
let current = null;
let isFirst = true;

function show(page, place) {
  if (current) current.close();
  current = page;
  put(main, page.element);
  document.title = `${page.title} · NeuroMAS`;
  for (const link of document.querySelectorAll("[data-place]")) {
    if (link.dataset.place === place) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  // After a change of page the focus would be nowhere: it goes to the page's heading, which is read out.
  if (!isFirst) (main.querySelector("h1") || main).focus({ preventScroll: true });
  isFirst = false;
}

function open() {
  const [path, query = ""] = (location.hash.slice(1) || "/runs").split("?");
  for (const [pattern, make, place] of ROUTES) {
    const found = pattern.exec(path);
    if (!found) continue;
    try {
      show(make({ id: found[1] && decodeURIComponent(found[1]), query: new URLSearchParams(query) }), place);
    } catch (error) {
      show({ element: h("div", {}, pageHead("NeuroMAS", "This page broke"), problemPanel(error)), title: "Error", close: () => {} }, place);
    }
    return;
  }
  show({ element: h("div", {}, pageHead("NeuroMAS", "No such page"), emptyPlace(`There is nothing at ${path}`, h("a", { href: "#/runs" }, "Go to the runs"))),
    title: "No such page", close: () => {} }, "");
}

function showKeyState() {
  say(keyState, key.get() ? "Key set" : "API key");
}

// The address says which page is shown, so the skip link cannot be one that changes it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", open);
window.addEventListener("key-changed", showKeyState);
window.addEventListener("key-wanted", (event) => {
  if (location.hash.startsWith("#/key") || (current && current.title === "API key")) return;
  show(keyPage({ reason: `This needs a key: ${event.detail}.`, onDone: open }), "key");
});
window.addEventListener("reach", (event) => {
  offline.hidden = event.detail;
  say(offline, event.detail ? "" : "The server cannot be reached. What is shown may be old; trying again.");
  announce(event.detail ? "The server is back" : "The server cannot be reached");
});

showKeyState();
open();
