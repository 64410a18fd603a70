// The page of one endpoint: ask it, watch the answer come, see what every node said; swap its checkpoint, stop it.

import { again, get, patch, remove } from "./api.js";
import { ask } from "./chat.js";
import { announce, h, put, say } from "./dom.js";
import { count, duration, number, percent, plural } from "./format.js";
import { drawGraph } from "./graph.js";
import { messageItems } from "./messages.js";
import { clearFaults, labelled, numberIn, placeFaults } from "./labelled.js";
import { askFor, card, confirmed, copyButton, doing, pageHead, problemPanel, setState, stateChip } from "./parts.js";
import { ZoomPane } from "./zoom.js";

const BUSY_S = 1.5;
const QUIET_S = 10;
const MAX_ANSWERS = 20;

/** Return the page of an endpoint. */
export function endpointPage({ id }) {
  const page = new EndpointPage(id);
  return { element: page.element, title: id, close: () => page.close() };
}

class EndpointPage {
  constructor(name) {
    this.name = name;
    this.path = `/v1/endpoints/${encodeURIComponent(name)}`;
    this.endpoint = null;
    this.asked = null;
    this.chip = stateChip("deploying");
    this.about = h("p", { class: "about" });
    this.buttons = h("div", { class: "tools" });
    this.trouble = h("div", {});
    this.element = h("div", {}, h("div", { class: "head-row" }, pageHead("Endpoint", name, h("p", { class: "state-line" }, this.chip), this.about), this.buttons), this.trouble,
      this.askCard(), this.useCard());
    this.stop = again(() => this.look());
  }

  askCard() {
    this.question = h("textarea", { name: "messages", rows: 3, spellcheck: "false", required: true, onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    } });
    this.temperature = h("input", { type: "number", name: "temperature", min: 0, max: 2, step: 0.1, value: 0 });
    this.seed = h("input", { type: "number", name: "seed", step: 1, placeholder: "drawn" });
    this.send = h("button", { type: "submit", class: "main" }, "Ask");
    this.halt = h("button", { type: "button", hidden: true, onclick: () => this.asked && this.asked.abort() }, "Stop");
    this.sample = h("button", { type: "button", onclick: () => this.useSample() }, "A question of the run");
    this.answers = h("div", { class: "answers" });
    const question = labelled("Question", this.question, "Ctrl and Enter sends it.");
    const others = [labelled("Temperature", this.temperature, "Empty or 0 = greedy."), labelled("Seed", this.seed, "Empty = a new one each time.")];
    this.fields = [question, ...others];
    this.form = h("form", { novalidate: true, onsubmit: (event) => this.submit(event) },
      question, h("div", { class: "fields" }, others),
      h("div", { class: "actions" }, this.sample, this.halt, this.send));
    return card("Ask", {}, this.form, this.answers);
  }

  useCard() {
    const address = location.origin;
    const python = `from openai import OpenAI\n\nclient = OpenAI(base_url="${address}/v1", api_key="$KEY")\n`
      + `answer = client.chat.completions.create(model="${this.name}", messages=[{"role": "user", "content": "..."}])\nprint(answer.choices[0].message.content)`;
    const body = JSON.stringify({ model: this.name, messages: [{ role: "user", content: "..." }] });
    const curl = `curl ${address}/v1/chat/completions -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '${body}'`;
    const code = (title, text) => h("details", {}, h("summary", {}, title), h("pre", { tabindex: 0 }, text), copyButton(text));
    return card("Use it from a program", { note: "Any client of OpenAI's chat API; the key is not looked at where the service needs none." }, code("Python", python), code("curl", curl));
  }

  async look() {
    try {
      const endpoint = await get(this.path);
      const before = this.endpoint;
      this.endpoint = endpoint;
      if (!before || before.version !== endpoint.version) this.show(before);
      if (!this.fetched) this.fetchSamples();
      return ["deploying", "swapping", "stopping"].includes(doing(endpoint)) ? BUSY_S : QUIET_S;
    } catch (error) {
      if (!this.endpoint) put(this.trouble, problemPanel(error));
      return error.status === 404 && !this.endpoint ? null : QUIET_S / 2;
    }
  }

  show(before) {
    const { endpoint } = this;
    setState(this.chip, endpoint.state, doing(endpoint));
    if (before && before.state !== endpoint.state) announce(`Endpoint ${endpoint.name} is ${endpoint.state}`);
    put(this.about, `${plural(endpoint.replicas, "replica")}, version ${endpoint.generation}, checkpoint ${endpoint.checkpoint} of `,
      h("a", { href: `#/runs/${endpoint.run}` }, endpoint.run), ".");
    put(this.trouble, endpoint.error && h("div", { class: "problem", role: "alert" },
      h("strong", {}, endpoint.state === "failed" ? "It could not be deployed" : "The last change failed"), h("p", {}, endpoint.error.message)));
    const isUp = endpoint.wanted === "run" && ["ready", "deploying"].includes(endpoint.state);
    if (this.buttons.dataset.up !== String(isUp)) {
      this.buttons.dataset.up = String(isUp);
      put(this.buttons, isUp && h("button", { type: "button", onclick: () => this.swap() }, "Swap checkpoint"),
        isUp && h("button", { type: "button", class: "danger", onclick: () => this.end() }, "Stop endpoint"));
    }
    this.send.disabled = endpoint.state !== "ready";
    this.send.title = endpoint.state === "ready" ? "" : `It is ${endpoint.state}`;
  }

  async fetchSamples() {
    this.fetched = true;
    try {
      const { data } = await get(`/v1/runs/${this.endpoint.run}/rollouts?limit=200`);
      this.samples = [...new Set(data.map((one) => one.question))];
    } catch {
      this.samples = []; // the run may be gone
    }
    this.sample.hidden = !this.samples.length;
    if (!this.question.value) this.useSample();
  }

  useSample() {
    if (!this.samples || !this.samples.length) return;
    this.question.value = this.samples[Math.floor(Math.random() * this.samples.length)];
  }

  async submit(event) {
    event.preventDefault();
    const text = this.question.value.trim();
    if (text) await this.ask({ text, temperature: numberIn(this.temperature) ?? 0, seed: numberIn(this.seed) });
    else placeFaults(this.fields, { param: "messages", message: "Write a question first." });
  }

  /** Ask a question; `changed` names the node whose message was changed, where one was. */
  async ask(question, changed = null) {
    if (this.asked) return;
    clearFaults(this.fields);
    const answer = new Answer(question, changed, (again, node) => this.ask(again, node));
    this.answers.prepend(answer.element);
    while (this.answers.children.length > MAX_ANSWERS) this.answers.lastChild.remove();
    this.asked = new AbortController();
    this.send.disabled = true;
    this.halt.hidden = false;
    try {
      await ask({ model: this.name, ...question }, { signal: this.asked.signal, onText: (piece) => answer.add(piece), onEnd: (end) => answer.end(end) });
      announce(`Answer: ${answer.text}`);
    } catch (error) {
      if (placeFaults(this.fields, error)) answer.element.remove();
      else answer.fail(error);
    }
    this.asked = null;
    this.halt.hidden = true;
    this.send.disabled = !this.endpoint || this.endpoint.state !== "ready";
  }

  async swap() {
    const { data } = await get(`/v1/runs/${this.endpoint.run}/checkpoints?limit=100`).catch(() => ({ data: [] }));
    const choice = h("select", {}, data.map((one) => h("option", { value: one.id, selected: one.id === this.endpoint.checkpoint },
      `${one.stage_name}, step ${one.step}, ${percent(one.accuracy)} right${one.id === this.endpoint.checkpoint ? " (now)" : ""}`)));
    const other = h("input", { type: "text", name: "checkpoint", autocomplete: "off", spellcheck: "false", placeholder: "run_…@best" });
    askFor({
      title: `Swap the checkpoint of ${this.name}`, action: "Swap",
      fields: [labelled("Checkpoint of the same run", choice), labelled("Or of another", other, "An id, or a run with @latest or @best. No request fails: those under way end on the old one.")],
      submit: async () => {
        await patch(this.path, { checkpoint: other.value.trim() || choice.value });
        announce("The checkpoint is being swapped");
        this.look();
      },
    });
  }

  async end() {
    const isSure = await confirmed({ title: `Stop ${this.name}?`, action: "Stop it", refuse: "Keep it running",
      text: "Clients that ask for it are told that there is no such model. It can be deployed again from its run." });
    if (!isSure) return;
    try {
      await remove(this.path);
    } catch (error) {
      put(this.trouble, problemPanel(error));
    }
    this.look();
  }

  close() {
    this.stop();
    if (this.asked) this.asked.abort();
  }
}

let answers = 0;

/** One question with its answer, as it comes, and the trace of every node. */
class Answer {
  constructor(question, changed, askAgain) {
    Object.assign(this, { question, askAgain, number: ++answers });
    this.text = "";
    this.selected = null;
    this.output = h("p", { class: "answer-text", "aria-busy": "true" });
    this.figures = h("p", { class: "about" }, "waiting for the graph …");
    this.trace = h("div", {});
    this.element = h("article", { class: "answer" }, h("p", { class: "question" }, question.text),
      changed && h("p", { class: "about" }, `With another message of ${changed}: what depends on it was asked again.`), this.output, this.figures, this.trace);
  }

  add(piece) {
    this.text += piece;
    say(this.output, this.text);
  }

  end({ reason, extras, usage, seconds, first }) {
    this.output.setAttribute("aria-busy", "false");
    if (!this.text) say(this.output, "(empty)");
    const parts = [`${duration(seconds)}, first token after ${duration(first)}`];
    if (usage) parts.push(`${count(usage.prompt_tokens)} tokens read, ${count(usage.completion_tokens)} said`);
    if (extras) parts.push(`seed ${extras.seed}`);
    if (reason === "length") parts.push("cut off at its budget");
    say(this.figures, parts.join("; "));
    if (extras && extras.trace) this.showTrace(extras.trace, extras.seed);
  }

  showTrace(trace, seed) {
    const topology = { nodes: trace.map(({ node }) => ({ id: node })), edges: trace.flatMap(({ node, reads }) => reads.map((source) => [source, node])) };
    const readBy = new Set(topology.edges.map(([source]) => source));
    topology.output = [...topology.nodes].reverse().map(({ id }) => id).find((id) => !readBy.has(id));
    const select = (node) => { this.selected = this.selected === node ? null : node; draw(); };
    const drawing = new ZoomPane(`What every node said, drawn: answer ${this.number}`);
    const list = h("ol", { class: "messages" });
    const slowest = Math.max(...trace.map((one) => one.latency_s), 1e-9);
    const toolOf = (one) => one.node !== topology.output && h("button", { type: "button", class: "small",
      "aria-label": `Change the message of ${one.node}`, onclick: () => this.change(one, trace, seed) }, "Change");
    const byNode = (make) => Object.fromEntries(trace.map((one) => [one.node, make(one)]));
    const draw = () => {
      const focused = this.trace.contains(document.activeElement) ? document.activeElement.dataset.node : null;
      const where = drawing.pane.contains(document.activeElement) ? drawing.pane : list;
      drawing.show(drawGraph(topology, { texts: byNode((one) => one.content), captions: byNode((one) => `${number(1000 * one.latency_s, 3)} ms`),
        shades: byNode((one) => one.latency_s / slowest), selected: this.selected, onSelect: select, label: `trace of ${trace.length} nodes` }));
      put(list, messageItems(topology, trace, this.selected, select, toolOf));
      if (focused) where.querySelector(`[data-node="${CSS.escape(focused)}"]`)?.focus();
    };
    draw();
    put(this.trace, h("details", { open: true }, h("summary", {}, `What every node said (${plural(trace.length, "node")})`), drawing.element, list));
  }

  /** Ask for another message of a node, and ask what depends on it again, with the same seed. */
  change({ node, content }, trace, seed) {
    const input = h("textarea", { rows: 3, spellcheck: "false" });
    input.value = content;
    askFor({ title: `What if ${node} said something else?`, action: "Ask on",
      fields: [labelled(`Message of ${node}`, input, "The nodes that depend on it are asked again; the others keep what they said.")],
      submit: async () => {
        const depend = dependants(trace, node);
        const kept = trace.filter((one) => !depend.has(one.node)).map((one) => [one.node, one.content]);
        this.askAgain({ ...this.question, seed, messages: { ...Object.fromEntries(kept), [node]: input.value } }, node);
      } });
  }

  fail(error) {
    this.output.setAttribute("aria-busy", "false");
    if (error.name === "AbortError") say(this.figures, this.text ? "stopped" : "stopped before the answer began");
    else put(this.figures, problemPanel(error));
  }
}

/** Return the nodes that read a node's message, or one that depends on it; `trace` is in the order of the graph. */
function dependants(trace, node) {
  const found = new Set([node]);
  for (const one of trace) if (one.reads.some((source) => found.has(source))) found.add(one.node);
  found.delete(node);
  return found;
}
