// The list of runs: their state, how the reward went, how far they are.

import { again, get } from "./api.js";
import { announce, h, put, say } from "./dom.js";
import { ago, duration, moment, number, percent, plural } from "./format.js";
import { emptyPlace, pageHead, problemPanel, setState, stateChip } from "./parts.js";
import { tagList } from "./run_tags.js";
import { drawSpark, sparkline } from "./spark.js";
import { ENDED } from "./stream.js";

const PAGE = 20;
const LARGEST_PAGE = 500;
const BUSY_S = 2;
const QUIET_S = 10;
const CURVES_AT_ONCE = 3;
const REWARD = "rollout/reward_mean";
const STATES = ["queued", "running", "paused", "succeeded", "failed", "cancelled"];

/** Return the page of all runs. */
export function runsPage({ query }) {
  const list = new RunList(query.get("state") || "");
  return { element: list.element, title: "Runs", close: () => list.close() };
}

class RunList {
  constructor(state) {
    this.state = state;
    this.limit = PAGE;
    this.rows = new Map();
    this.curves = [];
    this.working = 0;
    this.isClosed = false;
    this.body = h("ul", { class: "runs", "aria-label": "Runs" });
    this.place = h("div", {}, h("p", { class: "note" }, "loading …"));
    this.more = h("button", { type: "button", hidden: true, onclick: () => { this.limit += PAGE; this.refresh(); } }, "Show more");
    this.filter = h("select", { id: "state-filter", onchange: () => this.choose(this.filter.value) },
      h("option", { value: "" }, "all"), STATES.map((one) => h("option", { value: one, selected: one === state }, one)));
    this.search = h("input", { id: "run-search", type: "search", autocomplete: "off", spellcheck: "false",
      oninput: () => { this.limit = LARGEST_PAGE; this.sift(); this.refresh(); } });
    this.element = h("div", {},
      h("div", { class: "head-row" }, pageHead("NeuroMAS", "Runs"),
        h("div", { class: "tools" }, h("div", { class: "group" }, h("label", { for: "run-search" }, "Search"), this.search),
          h("div", { class: "group" }, h("label", { for: "state-filter" }, "State"), this.filter),
          h("a", { class: "button main", href: "#/new" }, "New run"))),
      this.place, this.body, this.more);
    this.stop = again(() => this.refresh());
  }

  /** Show the runs whose name, id, task or tags hold what is searched. */
  sift() {
    const wanted = this.search.value.trim().toLowerCase();
    for (const row of this.rows.values()) row.element.hidden = Boolean(wanted) && !row.text.includes(wanted);
  }

  choose(state) {
    this.state = state;
    this.limit = PAGE;
    history.replaceState(null, "", state ? `#/runs?state=${state}` : "#/runs");
    this.refresh();
  }

  async refresh() {
    const asked = this.state;
    try {
      const runs = await this.load(asked);
      if (asked !== this.state) return QUIET_S;
      this.show(runs.data, runs.has_more);
      return runs.data.some((run) => !ENDED.includes(run.state)) ? BUSY_S : QUIET_S;
    } catch (error) {
      // What is shown stays: it was right a moment ago, and the bar on top says that the server is away.
      if (!this.rows.size) put(this.place, problemPanel(error, () => this.refresh()));
      return QUIET_S / 2;
    }
  }

  async load(state) {
    const found = { data: [], has_more: true };
    let after = null;
    while (found.data.length < this.limit && found.has_more) {
      const query = new URLSearchParams({ limit: Math.min(this.limit - found.data.length, LARGEST_PAGE) });
      if (state) query.set("state", state);
      if (after) query.set("after", after);
      const page = await get(`/v1/runs?${query}`);
      found.data.push(...page.data);
      found.has_more = page.has_more;
      after = page.last_id;
    }
    return found;
  }

  show(runs, hasMore) {
    put(this.place, runs.length ? null : this.emptyPlace());
    this.more.hidden = !hasMore;
    const rows = runs.map((run) => {
      if (!this.rows.has(run.id)) this.rows.set(run.id, new RunRow());
      const row = this.rows.get(run.id);
      if (row.update(run)) this.wantCurve(row);
      return row.element;
    });
    const isSame = rows.length === this.body.children.length && rows.every((row, place) => row === this.body.children[place]);
    if (!isSame) put(this.body, rows);
    this.sift();
  }

  emptyPlace() {
    if (this.state) return emptyPlace(`No run is ${this.state}`, h("p", {}, "Choose another state, or all."));
    return emptyPlace("No runs yet",
      h("p", {}, "A run trains a graph of language-model nodes. Describe the graph, choose a task, and watch it learn."),
      h("a", { class: "button main", href: "#/new" }, "Make the first run"),
      h("p", {}, "Or from a shell: ", h("code", {}, "neuromas runs submit examples/quickstart.toml")));
  }

  wantCurve(row) {
    if (!this.curves.includes(row)) this.curves.push(row);
    if (this.working < CURVES_AT_ONCE) this.drawCurves();
  }

  async drawCurves() {
    this.working += 1;
    while (this.curves.length && !this.isClosed) {
      const row = this.curves.shift();
      try {
        await row.advance();
      } catch {
        break; // the next refresh asks again
      }
    }
    this.working -= 1;
  }

  close() {
    this.isClosed = true;
    this.stop();
  }
}

class RunRow {
  constructor() {
    this.rewards = [];
    this.after = 0;
    this.seen = null;
    this.chip = stateChip("queued");
    this.link = h("a", { class: "run-name" });
    this.about = h("span", { class: "about" });
    this.tags = h("span", {});
    this.spark = sparkline([], { width: 150, height: 34, label: "reward" });
    this.reward = h("b", {});
    this.accuracy = h("b", {});
    this.size = h("b", {});
    this.progress = h("progress", { max: 1, value: 0, "aria-label": "steps of the stage" });
    this.where = h("span", { class: "where" });
    this.element = h("li", { class: "run" },
      h("div", { class: "run-title" }, this.link, this.chip, this.tags, this.about),
      h("div", { class: "run-curve" }, this.spark),
      h("dl", { class: "run-figures" },
        h("div", {}, h("dt", {}, "reward, last 5 steps"), h("dd", {}, this.reward)),
        h("div", {}, h("dt", {}, "accuracy"), h("dd", {}, this.accuracy)),
        h("div", {}, h("dt", {}, "nodes"), h("dd", {}, this.size))),
      h("div", { class: "run-progress" }, this.progress, this.where));
  }

  /** Show a run; returns whether its curve may have gone on. */
  update(run) {
    if (this.seen && this.seen.version === run.version) {
      say(this.about, aboutOf(run));
      return false;
    }
    if (this.seen && this.seen.state !== run.state) announce(`Run ${run.name} is ${run.state}`);
    this.seen = run;
    this.text = `${run.name} ${run.id} ${run.task} ${run.tags.join(" ")}`.toLowerCase();
    const progress = run.progress || {};
    say(this.link, run.name);
    this.link.href = `#/runs/${run.id}`;
    setState(this.chip, run.state);
    put(this.tags, tagList(run.tags));
    say(this.about, aboutOf(run));
    this.about.title = `${run.id}, submitted ${moment(run.created)}`;
    say(this.reward, number(run.reward, 3));
    say(this.accuracy, percent(run.accuracy));
    say(this.size, String(progress.nodes || run.spec.topology.nodes.length));
    this.progress.value = run.state === "succeeded" ? 1 : progress.steps ? progress.step / progress.steps : 0;
    say(this.where, whereOf(run));
    return true;
  }

  /** Read the rewards that came since. */
  async advance() {
    for (;;) {
      const query = new URLSearchParams({ names: REWARD, after: this.after, limit: 1000 });
      const page = await get(`/v1/runs/${this.seen.id}/metrics?${query}`);
      this.rewards.push(...page.data.map((point) => point.metrics[REWARD]).filter((value) => value !== undefined));
      this.after = page.last_id;
      if (!page.has_more) break;
    }
    drawSpark(this.spark, this.rewards, { width: 150, height: 34, range: [0, 1] });
    const last = this.rewards[this.rewards.length - 1];
    this.spark.setAttribute("aria-label", this.rewards.length
      ? `reward over ${plural(this.rewards.length, "step")}: from ${number(this.rewards[0], 2)} to ${number(last, 2)}` : "no rewards yet");
  }
}

function aboutOf(run) {
  const grown = run.parent ? "grown, " : "";
  return `${run.task} task, ${grown}${ago(run.created)}`;
}

function whereOf(run) {
  const { progress } = run;
  if (run.state === "queued") return "waits for its turn";
  if (run.state === "failed") return run.error ? run.error.message : "failed";
  if (ENDED.includes(run.state)) return run.started && run.ended ? `${run.state} after ${duration(run.ended - run.started)}` : run.state;
  if (run.wanted !== "run" && run.state === "running") return run.wanted === "pause" ? "is being paused" : "is being cancelled";
  if (!progress) return run.state === "running" ? "starting" : run.state;
  const eta = progress.eta_s === null || run.state !== "running" ? "" : `, ${duration(progress.eta_s)} left`;
  return `step ${progress.step} of ${progress.steps}${progress.stage ? `, stage ${progress.stage + 1}` : ""}${eta}`;
}
