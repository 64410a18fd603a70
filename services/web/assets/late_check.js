// A check by the server of something that is being changed: a moment after the last change, and never of what was before.

const CHECK_AFTER_MS = 300;

/**
 * The check of what stands in one place of a page.
 *
 * `ask(signal)` asks and shows the answer; `refuse(error)` shows why there is none. Neither is heard of once something
 * has changed again. `element` is marked busy from a change until it is checked.
 */
export class LateCheck {
  constructor({ element, ask, refuse }) {
    Object.assign(this, { element, ask, refuse, timer: 0, abort: null, running: null, isDue: false });
  }

  /** Check again, a moment after the last change. */
  changed(wait = CHECK_AFTER_MS) {
    this.giveUp();
    this.isDue = true;
    this.element.setAttribute("aria-busy", "true");
    this.timer = setTimeout(() => this.start(), wait);
  }

  /** Check at once. */
  start() {
    this.giveUp();
    this.abort = new AbortController();
    this.running = this.run(this.abort.signal);
  }

  async run(signal) {
    try {
      await this.ask(signal);
    } catch (error) {
      if (!signal.aborted) this.refuse(error);
    }
    if (!signal.aborted) this.element.setAttribute("aria-busy", "false");
  }

  /** Resolve when what stands there now has been checked. */
  async settled() {
    do {
      if (this.isDue) this.start();
      await this.running;
    } while (this.isDue);
  }

  /** Check no more; what is under way is given up. */
  close() {
    this.giveUp();
    this.element.setAttribute("aria-busy", "false");
  }

  giveUp() {
    clearTimeout(this.timer);
    if (this.abort) this.abort.abort();
    this.isDue = false;
  }
}
