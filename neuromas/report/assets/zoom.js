// A place for a drawing that may be larger than the screen: it is fitted, enlarged and moved.

import { h, put } from "./dom.js";

const STEP = 1.4;
const SMALLEST = 0.05;
const LARGEST = 4;
const MAX_HEIGHT = 560;

/**
 * A place that shows one SVG of known width and height.
 *
 * It fits until it is enlarged: by the buttons, by the keys +, - and 0, or by the wheel with Ctrl. What is larger than
 * the place is moved by dragging, scrolling or the arrow keys.
 */
export class ZoomPane {
  constructor(label, ...children) {
    this.scale = null; // null: fitted
    this.image = null;
    this.pane = h("div", { class: "drawing", tabindex: 0, role: "region", "aria-label": label }, children);
    const button = (text, name, work) => h("button", { type: "button", class: "small", "aria-label": name, title: name, onclick: work }, text);
    this.out = button("−", "Make the graph smaller", () => this.zoom(1 / STEP));
    this.fit = button("Fit", "Fit the graph", () => this.set(null));
    this.tools = h("div", { class: "zoom-tools", hidden: true },
      button("+", "Make the graph larger", () => this.zoom(STEP)), this.out, this.fit);
    this.element = h("div", { class: "zoom-pane" }, this.tools, this.pane);
    this.pane.addEventListener("keydown", (event) => this.press(event));
    this.pane.addEventListener("wheel", (event) => this.turn(event), { passive: false });
    this.pane.addEventListener("pointerdown", (event) => this.grab(event));
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.pane);
  }

  /** Show an SVG in place of the one before; how large and where it is seen stays. */
  show(image) {
    const { scrollLeft, scrollTop } = this.pane;
    this.image = image;
    put(this.pane, image);
    this.resize();
    this.pane.scrollTo(scrollLeft, scrollTop);
  }

  get size() {
    return ["width", "height"].map((side) => Number(this.image.getAttribute(side)));
  }

  get fitted() {
    const [width, height] = this.size;
    return Math.min(1, this.pane.clientWidth / width, MAX_HEIGHT / height);
  }

  resize() {
    if (!this.image || !this.pane.clientWidth) return;
    const [width, height] = this.size;
    const scale = this.scale ?? this.fitted;
    this.image.style.setProperty("width", `${(scale * width).toFixed(1)}px`);
    this.image.style.setProperty("height", `${(scale * height).toFixed(1)}px`);
    this.tools.hidden = this.scale === null && this.fitted >= 1;
    this.out.disabled = this.scale === null;
    this.fit.disabled = this.scale === null;
    this.pane.classList.toggle("movable", this.scale !== null);
  }

  set(scale) {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.pane;
    const before = this.scale ?? this.fitted;
    this.scale = scale === null || scale <= this.fitted ? null : Math.min(Math.max(scale, SMALLEST), LARGEST);
    this.resize();
    const grown = (this.scale ?? this.fitted) / before;
    this.pane.scrollTo((scrollLeft + clientWidth / 2) * grown - clientWidth / 2, (scrollTop + clientHeight / 2) * grown - clientHeight / 2);
  }

  zoom(factor) {
    if (this.image) this.set(factor * (this.scale ?? this.fitted));
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") this.zoom(STEP);
    else if (event.key === "-") this.zoom(1 / STEP);
    else if (event.key === "0") this.set(null);
    else return;
    event.preventDefault();
  }

  turn(event) {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? STEP : 1 / STEP);
  }

  grab(event) {
    if (event.pointerType !== "mouse" || event.button !== 0 || this.scale === null) return;
    const { scrollLeft, scrollTop } = this.pane;
    const stop = new AbortController();
    const { signal } = stop;
    window.addEventListener("pointermove", (moved) => this.pane.scrollTo(scrollLeft + event.clientX - moved.clientX,
      scrollTop + event.clientY - moved.clientY), { signal });
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => stop.abort(), { signal });
  }

  close() {
    this.watcher.disconnect();
  }
}
