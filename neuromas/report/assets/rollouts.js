// All rollouts that were kept, a page at a time, of those that the reader asks for.

import { freshId, h, put, say } from "./dom.js";
import { rolloutCard } from "./messages.js";

const PAGE = 10;

/** A list of rollouts with filters. */
export class RolloutList {
  /**
   * `find(filter, after, limit)` promises `{data, has_more, last_id}`, the first rollouts behind an id, in order, that
   * fit a filter `{stage, from_step, to_step, result, contains, node}` without the keys that do not matter.
   * `topologyOf(stage)`: its graph. `tell(error)`: shows what went wrong. `promptOf`: see `Messages`.
   */
  constructor({ find, topologyOf, tell, promptOf }) {
    Object.assign(this, { find, topologyOf, tell, promptOf, asked: 0, starts: [0], last: 0 });
    const number = () => h("input", { type: "number", min: 0, step: 1 });
    this.fields = {
      stage: h("input", { type: "number", min: 1, step: 1 }), from_step: number(), to_step: number(),
      result: h("select", {}, [["", "right or wrong"], ["right", "right"], ["wrong", "wrong"]].map(([value, text]) => h("option", { value }, text))),
      contains: h("input", { type: "search", autocomplete: "off", spellcheck: "false" }),
      node: h("input", { type: "text", autocomplete: "off", spellcheck: "false" }),
    };
    const titles = { stage: "Stage", from_step: "From step", to_step: "To step", result: "Result", contains: "Contains", node: "Node" };
    this.status = h("p", { class: "note", role: "status" });
    this.list = h("div", { class: "rollouts" });
    this.before = h("button", { type: "button", class: "small", onclick: () => this.turn(-1) }, "Earlier");
    this.behind = h("button", { type: "button", class: "small", onclick: () => this.turn(1) }, "Later");
    this.element = h("div", {},
      h("form", { class: "filters", novalidate: true, onchange: () => this.begin(), onsubmit: (event) => { event.preventDefault(); this.begin(); } },
        Object.entries(this.fields).map(([name, input]) => {
          input.id = freshId("filter");
          input.setAttribute("aria-describedby", `${input.id}-fault`);
          return h("div", { class: "filter" }, h("label", { for: input.id }, titles[name]), input, h("p", { class: "fault", id: `${input.id}-fault` }));
        })),
      this.status, this.list, h("div", { class: "pager" }, this.before, this.behind));
  }

  get filter() {
    const { stage, ...others } = Object.fromEntries(Object.entries(this.fields).map(([name, input]) => [name, input.value.trim()]));
    const found = stage ? { stage: Number(stage) - 1, ...others } : others;
    return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== ""));
  }

  /** Show the first page; where a field holds what it cannot, that is said beside it, and what is shown stays. */
  begin() {
    const inputs = Object.values(this.fields);
    for (const input of inputs) {
      say(input.nextSibling, input.validationMessage);
      input.setAttribute("aria-invalid", String(!input.validity.valid));
    }
    if (inputs.some((input) => !input.validity.valid)) return Promise.resolve();
    this.starts = [0];
    return this.load();
  }

  turn(by) {
    if (by > 0) this.starts.push(this.last);
    else this.starts.pop();
    return this.load();
  }

  async load() {
    this.asked += 1;
    const { asked } = this;
    try {
      const page = await this.find(this.filter, this.starts[this.starts.length - 1], PAGE);
      if (asked === this.asked) this.show(page);
    } catch (error) {
      if (asked === this.asked) this.tell(error);
    }
  }

  show({ data, has_more: hasMore, last_id: last }) {
    this.last = last;
    const first = PAGE * (this.starts.length - 1);
    say(this.status, data.length ? `${first + 1} to ${first + data.length}${hasMore ? ", more follow" : ""}` : "None is as asked for.");
    put(this.list, data.map((rollout) => rolloutCard(this.topologyOf(rollout.stage), rollout, { promptOf: this.promptOf })));
    this.before.disabled = this.starts.length < 2;
    this.behind.disabled = !hasMore;
  }
}

/** Return `find` over rollouts that are all here; their ids are their places, from 1. */
export function findAmong(rollouts) {
  return async (filter, after, limit) => {
    const fitting = rollouts.map((rollout, place) => ({ ...rollout, id: place + 1 })).filter((one) => one.id > after && fits(one, filter));
    const data = fitting.slice(0, limit);
    return { data, has_more: fitting.length > limit, last_id: data.length ? data[data.length - 1].id : after };
  };
}

/** Return whether a rollout is as asked for; a text is looked for in the named node's message, or in all there is. */
function fits(rollout, { stage, from_step: from = 0, to_step: to = Infinity, result, contains = "", node }) {
  const said = rollout.messages.filter((message) => !node || message.node === node);
  const texts = [...said.map((message) => message.text), ...(node ? [] : [rollout.question, rollout.answer, rollout.expected])];
  return (stage === undefined || rollout.stage === stage) && rollout.step >= from && rollout.step <= to
    && (!result || (rollout.reward >= 1) === (result === "right")) && (!node || said.length > 0)
    && texts.some((text) => text.toLowerCase().includes(contains.toLowerCase()));
}
