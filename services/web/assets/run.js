// The page of one run: what it is, where it is, what can be done with it. Its panels are in files of their own.

import { again, get, post, remove } from "./api.js";
import { announce, h, oncePerFrame, put, say } from "./dom.js";
import { count, duration, moment, number, percent, planWords, UNKNOWN } from "./format.js";
import { RunHistory } from "./history.js";
import { lineagePanel } from "./lineage.js";
import { card, confirmed, copyButton, pageHead, problemPanel, putPage, setState, stateChip } from "./parts.js";
import { QuestionPanel, rolloutPanel } from "./run_answers.js";
import { CheckpointPanel } from "./run_checkpoints.js";
import { CurvePanel } from "./run_curves.js";
import { GraphPanel } from "./run_graph.js";
import { LogPanel } from "./run_log.js";
import { ImportPanel } from "./run_imports.js";
import { RunTags } from "./run_tags.js";
import { ENDED, follow } from "./stream.js";

const LOOK_S = 2;
const LOOK_QUIET_S = 20;
const REWARD = "rollout/reward_mean";
const MODES = { live: "live", polling: "live, by polling", away: "no connection, trying again", ended: "" };

/** Return the page of a run. */
export function runPage({ id }) {
  const page = new RunPage(id);
  return { element: page.element, title: "Run", close: () => page.close() };
}

class RunPage {
  constructor(id) {
    this.id = id;
    this.path = `/v1/runs/${encodeURIComponent(id)}`;
    this.run = null;
    this.history = new RunHistory();
    this.isClosed = false;
    this.panels = [];
    this.stops = [];
    this.element = h("div", {}, h("p", { class: "note" }, "loading …"));
    this.redraw = oncePerFrame(() => this.draw());
    this.open();
  }

  async open() {
    try {
      this.run = await get(this.path);
    } catch (error) {
      putPage(this.element, pageHead("Run", this.id), problemPanel(error, error.status === 404 ? null : () => this.open()));
      return;
    }
    if (this.isClosed) return;
    this.build();
    this.show();
    this.stops.push(again(() => this.look()));
    this.stops.push(follow(`${this.path}/events`, {
      onEntries: (entries) => this.take(entries),
      onStatus: (mode) => say(this.mode, MODES[mode]),
      onEnd: () => { say(this.mode, MODES.ended); this.look(); },
    }));
  }

  build() {
    this.chip = stateChip(this.run.state);
    this.mode = h("span", { class: "mode" });
    this.buttons = h("div", { class: "tools" });
    this.about = h("p", { class: "about" });
    this.outcome = h("p", { class: "outcome", hidden: true });
    this.tags = new RunTags(this.path, (run) => this.put(run));
    this.trouble = h("div", {});
    this.tiles = new Tiles();
    this.imports = new ImportPanel();
    this.curves = new CurvePanel(this.history, () => this.run);
    this.graph = new GraphPanel(this.history, this.path);
    this.questions = new QuestionPanel(this.history, this.path);
    this.checkpoints = new CheckpointPanel(this);
    this.log = new LogPanel(this.history, this.path);
    this.lineage = lineagePanel(this.run);
    this.panels = [this.curves, this.graph, this.questions, this.log, this.checkpoints];
    const spec = JSON.stringify(this.run.spec, null, 1);
    putPage(this.element,
      h("div", { class: "head-row" }, pageHead("Run", this.run.name,
        h("p", { class: "state-line" }, this.chip, this.mode), this.about, this.outcome, this.tags.element), this.buttons),
      this.trouble, this.tiles.element, this.imports.element, this.curves.element, this.graph.element,
      this.questions.element, rolloutPanel(this.history, this.path), this.checkpoints.element,
      this.lineage, this.log.element,
      card("Spec", { note: "The run as data, with every default filled in.", tools: [copyButton(spec, "Copy as JSON"),
        h("a", { class: "button small", href: `#/new?from=${this.id}` }, "Change and submit again")] },
      h("details", {}, h("summary", {}, "Show"), h("pre", { tabindex: 0 }, spec))));
    document.title = `${this.run.name} · NeuroMAS`;
  }

  /** Look at the run's record; returns the seconds until the next look. */
  async look() {
    try {
      const run = await get(this.path);
      if (this.isClosed) return null;
      if (run.version !== this.run.version) {
        const before = this.run.state;
        this.run = run;
        if (run.state !== before) announce(`Run ${run.name} is ${run.state}`);
        this.show();
      }
    } catch (error) {
      if (error.status === 404) put(this.trouble, problemPanel(error));
      // Else the bar on top says that the server is away.
    }
    return ENDED.includes(this.run.state) ? LOOK_QUIET_S : LOOK_S;
  }

  take(entries) {
    const { numCheckpoints, evaluations, state } = this.history;
    this.history.add(entries);
    if (this.history.state !== state) this.look();
    if (this.history.numCheckpoints !== numCheckpoints || this.history.evaluations !== evaluations) {
      this.checkpoints.expect();
      this.questions.expect();
    }
    if (entries.some((entry) => entry.type === "step")) this.graph.expect();
    this.redraw();
  }

  draw() {
    this.curves.draw();
    this.graph.draw();
    this.log.draw();
    this.tiles.show(this.run, this.history);
  }

  show() {
    const { run } = this;
    setState(this.chip, run.state, wish(run));
    put(this.about, aboutOf(run));
    say(this.outcome, run.verdict || "");
    this.outcome.hidden = !run.verdict;
    this.tags.show(run.tags);
    this.imports.show(run);
    this.showButtons();
    put(this.trouble, run.error && h("div", { class: "problem", role: "alert" },
      h("strong", {}, run.state === "failed" ? "This run has failed" : "Its last attempt broke off"),
      h("p", {}, run.error.param && h("code", {}, run.error.param), " ", run.error.message)));
    this.tiles.show(run, this.history);
    this.checkpoints.show();
  }

  showButtons() {
    const { state, wanted } = this.run;
    const verbs = [];
    if (state === "queued" || (state === "running" && wanted === "run")) verbs.push("pause");
    if (state === "paused" || (state === "running" && wanted === "pause")) verbs.push("resume");
    if (!ENDED.includes(state) && wanted !== "cancel") verbs.push("cancel");
    if (ENDED.includes(state)) verbs.push("delete");
    const shown = verbs.join(" ");
    if (this.buttons.dataset.verbs === shown) return;
    const hadFocus = this.buttons.contains(document.activeElement);
    this.buttons.dataset.verbs = shown;
    put(this.buttons, verbs.map((verb) => h("button", { type: "button", class: ["cancel", "delete"].includes(verb) ? "danger" : "",
      onclick: () => (verb === "delete" ? this.delete() : this.move(verb)) }, verb.charAt(0).toUpperCase() + verb.slice(1))));
    if (hadFocus) (this.buttons.querySelector("button") || this.element.querySelector("h1")).focus();
  }

  async move(verb) {
    const isSure = verb !== "cancel" || await confirmed({
      title: `Cancel ${this.run.name}?`,
      text: "A cancelled run never goes on. Its checkpoints stay, and can be grown, served and exported. To go on later, pause it instead.",
      action: "Cancel the run",
    });
    if (!isSure) return;
    try {
      this.run = await post(`${this.path}/${verb}`, {});
      this.show();
      announce(`Run ${this.run.name}: ${wish(this.run)}`);
    } catch (error) {
      put(this.trouble, problemPanel(error));
    }
    this.look();
  }

  /** Show a record that an answer brought. */
  put(run) {
    this.run = run;
    this.show();
  }

  async delete() {
    const { name } = this.run;
    const isSure = await confirmed({ title: `Delete ${name}?`, action: "Delete the run",
      text: "Its record, curves, rollouts, log, checkpoints and files are removed for good. Runs grown from it, and exports, stay." });
    if (!isSure) return;
    try {
      await remove(this.path);
      announce(`Run ${name} is deleted`);
      location.hash = "#/runs";
    } catch (error) {
      put(this.trouble, problemPanel(error));
    }
  }

  close() {
    this.isClosed = true;
    this.redraw.cancel();
    for (const stop of this.stops) stop();
    for (const panel of this.panels) panel.close();
  }
}

function wish(run) {
  if (run.state !== "running" || run.wanted === "run") return run.state;
  return run.wanted === "pause" ? "pausing" : "cancelling";
}

function aboutOf(run) {
  const { spec, parent } = run;
  const parts = [`${run.task} task on the base ${run.base}`, `${sized(spec.adapter)} per node`,
    `seed ${spec.seed}`, `submitted ${moment(run.created)}`];
  if (run.attempt > 1) parts.push(`attempt ${run.attempt} of ${run.max_attempts}`);
  return [parts.join(", "), parent && [". Grown from ", h("a", { href: `#/runs/${parent.run}` }, parent.run), `: ${planWords(parent.plan)}`], "."];
}

/** The figures on top: a row of fixed height, whatever is known. */
class Tiles {
  constructor() {
    this.figures = new Map();
    const names = ["reward", "accuracy", "progress", "graph", "speed"];
    const titles = ["Reward, last 5 steps", "", "Steps", "Nodes", "A step takes"];
    this.progress = h("progress", { max: 1, value: 0, "aria-label": "steps of the stage" });
    this.element = h("div", { class: "tiles" }, names.map((name, place) => {
      const figure = { title: h("span", {}, titles[place]), value: h("b", {}, UNKNOWN), what: h("span", { class: "what" }, "\u00a0") };
      this.figures.set(name, figure);
      return h("div", { class: "tile" }, figure.title, figure.value,
        name === "progress" ? this.progress : null, figure.what);
    }));
  }

  show(run, history) {
    const progress = run.progress || {};
    const last = history.steps[history.steps.length - 1];
    const step = last && last.stage === (progress.stage ?? last.stage) ? Math.max(last.step, progress.step || 0) : progress.step;
    const seconds = history.recent("time/step_s");
    const nodes = history.stage ? history.stage.topology.nodes.length : run.spec.topology.nodes.length;
    const first = history.stages.length ? history.stages[0].topology.nodes.length : nodes;
    this.set("reward", number(run.reward, 3), history.steps.length ? `first ${number(history.steps[0].metrics[REWARD], 3)}` : "");
    this.showAccuracy(run, history);
    this.set("progress", progress.steps ? `${step} / ${progress.steps}` : UNKNOWN, this.left(run, progress));
    this.progress.value = run.state === "succeeded" ? 1 : progress.steps ? step / progress.steps : 0;
    this.set("graph", count(nodes), nodes === first ? "one adapter each" : `grown from ${first}`);
    const tokens = history.recent("rollout/tokens");
    this.set("speed", duration(seconds), seconds && tokens ? `${count(tokens / seconds)} tokens/s` : "");
  }

  /** Show the accuracy on test questions of a run that has its result, and the last on validation questions of others. */
  showAccuracy(run, history) {
    const found = run.result && run.result.accuracy;
    const sampled = found ? found.sampled?.value : history.accuracy("sampled").at(-1)?.[1];
    say(this.figures.get("accuracy").title, found ? "Test accuracy" : "Validation accuracy");
    this.set("accuracy", percent(found ? found.greedy.value : run.accuracy), sampled === undefined ? "greedy" : `greedy; sampled ${percent(sampled)}`);
  }

  left(run, progress) {
    if (ENDED.includes(run.state)) return run.started && run.ended ? `took ${duration(run.ended - run.started)}` : run.state;
    if (run.state === "running" && progress.eta_s !== null && progress.eta_s !== undefined) return `${duration(progress.eta_s)} left in this stage`;
    return run.state === "running" ? "starting" : run.state;
  }

  set(name, value, what) {
    const figure = this.figures.get(name);
    say(figure.value, value);
    say(figure.what, what || "\u00a0");
  }
}

/** Return an adapter section as words: its type and its size. */
function sized({ type, rank }) {
  return rank === undefined ? type : `${type}, rank ${rank}`;
}
