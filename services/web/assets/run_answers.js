// What the nodes of a run said: to the same held-out questions over time, and in all rollouts that were kept.

import { get } from "./api.js";
import { h, put } from "./dom.js";
import { card, problemPanel } from "./parts.js";
import { Questions } from "./questions.js";
import { RolloutList } from "./rollouts.js";

const READ_MS = 1500;

/** The panel of the held-out questions that a run asks again and again; `expect` looks for answers soon. */
export class QuestionPanel {
  constructor(history, path) {
    Object.assign(this, { path, after: 0, entries: [], timer: 0, isReading: false });
    this.questions = new Questions((stage) => history.topologyOf(stage), promptsOf(`${path}/questions`));
    this.element = card("The same questions over time", { note: "Held-out questions, answered greedily before the first step, with every checkpoint and every evaluation. Choose an answer to see what every node said." },
      this.questions.element);
    this.element.hidden = true;
    this.read();
  }

  expect() {
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.read(); }, READ_MS);
  }

  async read() {
    if (this.isReading) return;
    this.isReading = true;
    try {
      for (let hasMore = true; hasMore;) {
        const page = await get(`${this.path}/questions?after=${this.after}&limit=500`);
        this.after = page.last_id;
        this.entries.push(...page.data);
        hasMore = page.has_more;
        if (page.data.length) this.questions.show(this.entries);
      }
      this.element.hidden = !this.entries.length;
    } catch {
      this.expect(); // nothing is lost: they are read when the server is back
    }
    this.isReading = false;
  }

  close() {
    clearTimeout(this.timer);
    this.isReading = true;
  }
}

/** Return what asks for the prompts of a stream's messages, of those nodes that were asked; see `Messages`. */
export function promptsOf(stream) {
  return (rollout, { node, prompt_tokens: read }) => (read
    ? async () => (await get(`${stream}/${rollout.id}/prompt?${new URLSearchParams({ node })}`)).text : null);
}

/** Return the panel by which all rollouts of a run are searched; nothing is read before it is opened. */
export function rolloutPanel(history, path) {
  const trouble = h("div", {});
  const list = new RolloutList({
    find: (filter, after, limit) => {
      put(trouble);
      return found(path, filter, after, limit);
    },
    topologyOf: (stage) => history.topologyOf(stage),
    tell: (error) => put(trouble, problemPanel(error)),
    promptOf: promptsOf(`${path}/rollouts`),
  });
  const details = h("details", { ontoggle: () => details.open && list.begin() }, h("summary", {}, "Search them"), trouble, list.element);
  return card("All rollouts", { note: "Every one that was kept: by stage, steps, result, text, node." }, details);
}

async function found(path, filter, after, limit) {
  const data = [];
  for (let last = after; ;) {
    const page = await get(`${path}/rollouts:find?${new URLSearchParams({ ...filter, after: last, limit: limit - data.length })}`);
    data.push(...page.data);
    last = page.last_id;
    if (data.length === limit || !page.has_more) return { data, has_more: page.has_more, last_id: last };
  }
}
