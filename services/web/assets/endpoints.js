// The list of endpoints: checkpoints that answer under a name.

import { again, get } from "./api.js";
import { h, put } from "./dom.js";
import { ago, moment } from "./format.js";
import { doing, emptyPlace, pageHead, problemPanel, stateChip } from "./parts.js";
import { table } from "./table.js";

const BUSY_S = 2;
const QUIET_S = 10;

/** Return the page of all endpoints. */
export function endpointsPage() {
  const place = h("div", {}, h("p", { class: "note" }, "loading …"));
  let shown = "";
  const stop = again(async () => {
    try {
      const { data } = await get("/v1/endpoints?limit=100");
      const wanted = JSON.stringify(data);
      if (wanted !== shown) put(place, data.length ? list(data) : nothing());
      shown = wanted;
      return data.some((one) => ["deploying", "swapping", "stopping"].includes(doing(one))) ? BUSY_S : QUIET_S;
    } catch (error) {
      if (!shown) put(place, problemPanel(error));
      return QUIET_S / 2;
    }
  });
  return { element: h("div", {}, pageHead("NeuroMAS", "Endpoints",
    h("p", { class: "about" }, "Trained graphs that answer: each is a model for any client of OpenAI's chat API.")), place), title: "Endpoints", close: stop };
}

function nothing() {
  return emptyPlace("No endpoints yet", h("p", {}, "Open a run and deploy one of its checkpoints."), h("a", { class: "button main", href: "#/runs" }, "Go to the runs"));
}

function list(endpoints) {
  return h("section", { class: "card" }, table("Endpoints", ["name", "state", "run and checkpoint", "#replicas", "#version", "deployed"], endpoints.map((one) => [
    h("a", { class: "run-name", href: `#/endpoints/${encodeURIComponent(one.name)}` }, one.name),
    [stateChip(one.state, doing(one)), one.error && h("small", { class: "bad" }, one.error.message)],
    h("span", {}, h("a", { href: `#/runs/${one.run}` }, one.run), h("small", {}, one.checkpoint)),
    one.max_replicas > one.replicas ? `${one.replicas} – ${one.max_replicas}` : String(one.replicas),
    String(one.generation), h("span", { title: moment(one.created) }, ago(one.created))]), { stacked: true }));
}
