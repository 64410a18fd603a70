// Elements made of plain data. Text from the server only ever becomes text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return a new HTML element.
 *
 * `props`: `on<event>` takes a listener; `vars` an object of style properties; true sets an empty attribute; null and
 * false are left out. `children`: nodes, texts, and lists of them; null and false are left out.
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Return a new SVG element; as `h`. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Replace what an element holds. */
export function put(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

/** Set an element's text where it differs, so that nothing is drawn anew, or read out, without need. */
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
  return element;
}

/** Have screen readers read a text out. */
export function announce(text) {
  say(document.getElementById("announcer"), text);
}

/** Return `work`, called at most once per frame however often it is asked for. */
export function oncePerFrame(work) {
  let asked = 0;
  const ask = () => {
    if (!asked) asked = requestAnimationFrame(() => { asked = 0; work(); });
  };
  ask.cancel = () => { cancelAnimationFrame(asked); asked = 0; };
  return ask;
}

let named = 0;

/** Return an id that no other element has. */
export function freshId(prefix) {
  named += 1;
  return `${prefix}-${named}`;
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") setVars(element, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

// Through the object model: the page's policy allows no style attributes.
function setVars(element, values) {
  for (const [name, value] of Object.entries(values)) element.style.setProperty(name, value);
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
