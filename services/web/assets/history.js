// What a run's events and rollouts say, put together as they come: stages, curves, evaluations, notices.

const MAX_ROLLOUTS = 400;
const RECENT = 5;
const RECENT_ROLLOUTS = 24;
const CUT_SHARE = 0.2;

/** The history of one run, built from its event stream. */
export class RunHistory {
  constructor() {
    this.stages = [];
    this.steps = [];
    this.evaluations = [];
    this.told = [];
    this.rollouts = [];
    this.state = null;
    this.numCheckpoints = 0;
    this.curves = new Map();
    this.stepsOf = new Map();
  }

  /** Take in events, in order. */
  add(events) {
    for (const event of events) this.take(event);
  }

  take(event) {
    switch (event.type) {
      case "step": this.takeStep(event); return;
      case "stage_started": this.takeStage(event); break;
      case "evaluated": this.takeEvaluation(event); break;
      case "checkpoint": this.numCheckpoints += 1; break;
      case "state": this.state = event.state; break;
      default: break;
    }
    if (event.type !== "checkpoint") this.told.push(event);
  }

  takeStage(event) {
    const known = this.stages.find((stage) => stage.index === event.stage);
    const stage = { index: event.stage, name: event.name, topology: event.topology, level: event.level ?? null,
      steps: event.steps };
    if (known) Object.assign(known, stage);
    else this.stages.push(stage);
  }

  takeStep(event) {
    const x = this.offset(event.stage) + event.step;
    this.stepsOf.set(event.stage, Math.max(event.step, this.stepsOf.get(event.stage) || 0));
    this.steps.push({ x, stage: event.stage, step: event.step, time: event.time_s, metrics: event.metrics });
    for (const [name, value] of Object.entries(event.metrics)) {
      if (!Number.isFinite(value)) continue;
      if (!this.curves.has(name)) this.curves.set(name, []);
      this.curves.get(name).push([x, value]);
    }
  }

  takeEvaluation(event) {
    if (!event.examples || event.purpose === "check") return;
    const x = this.offset(event.stage) + event.step;
    const others = this.evaluations.filter((one) => one.x !== x || one.mode !== event.mode);
    this.evaluations = [...others, { x, mode: event.mode, value: event.correct / event.examples, level: event.level }];
  }

  /** Return the steps of all stages before one. */
  offset(index) {
    let offset = 0;
    for (const [stage, steps] of this.stepsOf) if (stage < index) offset += steps;
    return offset;
  }

  /** Return the steps after which each stage begins; a moving mean begins anew there. */
  starts() {
    return this.stepsOf.size ? [...this.stepsOf.keys()].map((stage) => this.offset(stage)) : [0];
  }

  /** Take in sampled rollouts; of very many the first few and the latest are kept. */
  addRollouts(entries) {
    this.rollouts.push(...entries);
    const tooMany = this.rollouts.length - MAX_ROLLOUTS;
    if (tooMany > 0) this.rollouts.splice(RECENT, tooMany);
  }

  /** The newest stage; null before the first. */
  get stage() {
    return this.stages[this.stages.length - 1] || null;
  }

  /** Return the graph that a stage trained; null where it is not known. */
  topologyOf(index) {
    return (this.stages.find((stage) => stage.index === index) || {}).topology || null;
  }

  /** Return a metric over steps. */
  curve(name) {
    return this.curves.get(name) || [];
  }

  /** Return the curves of a metric that is measured per node, by node, in the graph's order. */
  nodeCurves(metric) {
    const found = new Map();
    for (const node of this.nodes()) {
      const curve = this.curves.get(`${metric}/${node}`);
      if (curve) found.set(node, curve);
    }
    return found;
  }

  /** Return all nodes that there have been, those of the newest graph first. */
  nodes() {
    const nodes = new Set();
    for (const stage of [...this.stages].reverse()) for (const { id } of stage.topology.nodes) nodes.add(id);
    return [...nodes];
  }

  /** Return the validation accuracies of a mode, [x, share]. */
  accuracy(mode) {
    return this.evaluations.filter((one) => one.mode === mode).map((one) => [one.x, one.value]);
  }

  /** Return where each stage begins, with its size; nothing for a run of one. */
  marks() {
    if (this.stages.length < 2) return [];
    return this.stages.map((stage) => {
      const nodes = stage.topology.nodes.length;
      const parts = [`${nodes} node${nodes === 1 ? "" : "s"}`, stage.level === null ? "" : `level ${stage.level}`];
      return { x: this.offset(stage.index), label: parts.filter(Boolean).join(", ") };
    });
  }

  /** Return the mean of a metric over the last few steps; null where they have none. */
  recent(name) {
    const last = this.steps.length ? this.steps[this.steps.length - 1].x : 0;
    const values = this.curve(name).slice(-RECENT).filter(([x]) => x > last - RECENT).map((point) => point[1]);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  }

  /** Return the share of a node's recent sampled messages that hit their budget; null where there are none. A replay
   * keeps some messages of another rollout: these were not sampled, and have no prompt. */
  truncation(node) {
    const calls = this.rollouts.slice(-RECENT_ROLLOUTS).flatMap((one) => one.messages.filter((m) => m.node === node && m.prompt_tokens));
    return calls.length ? calls.filter((call) => call.finish_reason === "length").length / calls.length : null;
  }

  /** Return how a node does: figures of the last steps, and what stands out. */
  health(node) {
    const health = {
      gradient: this.recent(`train/grad_norm/${node}`),
      entropy: this.recent(`train/entropy/${node}`),
      length: this.recent(`rollout/length_mean/${node}`),
      kl: this.recent(`train/kl/${node}`),
      truncated: this.truncation(node),
    };
    return { ...health, ...verdict(health) };
  }
}

function verdict({ gradient, truncated, length }) {
  if (truncated !== null && truncated >= CUT_SHARE) {
    return { kind: "bad", word: "cut off", reason: "many messages hit their token budget before they ended" };
  }
  if (gradient === null && length === null) return { kind: "idle", word: "no data", reason: "no step yet" };
  if (gradient === null || gradient === 0) {
    return { kind: "idle", word: "still", reason: "no gradient in the last steps: all rewards of a group were the same" };
  }
  return { kind: "good", word: "learning", reason: "gets a gradient, ends its messages by itself" };
}
