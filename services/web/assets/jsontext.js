// JSON as people type it: parsed with the place of every value, so that what is wrong can be shown where it stands.

/** Where a text is not JSON. */
export class JsonFault extends Error {
  constructor(message, offset) {
    super(message);
    this.offset = offset;
  }
}

/**
 * Return `{value, places}` of a JSON text: places maps a path, such as `nodes[2].id`, to the offset of its value.
 *
 * Throws JsonFault.
 */
export function parseJson(text) {
  const reader = new Reader(text);
  const value = reader.value("");
  reader.space();
  if (reader.at < text.length) reader.fail("expected the end");
  return { value, places: reader.places };
}

/** Return the line, from 1, of an offset. */
export function lineOf(text, offset) {
  return text.slice(0, offset).split("\n").length;
}

/** Return the offset of a path, or of the nearest part around it that there is. */
export function offsetOf(places, path) {
  let rest = path;
  while (rest) {
    if (places.has(rest)) return places.get(rest);
    rest = rest.replace(/(\.[^.[\]]*|\[\d+\]|^[^.[\]]+)$/, "");
  }
  return places.get("") ?? 0;
}

const WORDS = { true: true, false: false, null: null };
const ESCAPES = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", '"': '"', "\\": "\\", "/": "/" };

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.places = new Map();
  }

  fail(message) {
    const found = this.at < this.text.length ? `, got ${JSON.stringify(this.text[this.at])}` : ", but the text ends";
    throw new JsonFault(message + found, this.at);
  }

  space() {
    while (" \t\r\n".includes(this.text[this.at] || "x")) this.at += 1;
  }

  next(wanted) {
    this.space();
    if (this.text[this.at] !== wanted) return false;
    this.at += 1;
    return true;
  }

  value(path) {
    this.space();
    this.places.set(path, this.at);
    const first = this.text[this.at];
    if (first === "{") return this.object(path);
    if (first === "[") return this.array(path);
    if (first === '"') return this.string();
    const word = /[a-z]+/y;
    word.lastIndex = this.at;
    const [named] = word.exec(this.text) || [];
    if (named in WORDS) {
      this.at += named.length;
      return WORDS[named];
    }
    return this.number();
  }

  object(path) {
    const found = {};
    this.at += 1;
    if (this.next("}")) return found;
    do {
      this.space();
      if (this.text[this.at] !== '"') this.fail("expected a key in double quotes");
      const start = this.at;
      const key = this.string();
      if (Object.hasOwn(found, key)) { this.at = start; this.fail(`the key ${JSON.stringify(key)} is there twice`); }
      if (!this.next(":")) this.fail("expected : after the key");
      const inner = path ? `${path}.${key}` : key;
      Object.defineProperty(found, key, { value: this.value(inner), enumerable: true, writable: true, configurable: true });
    } while (this.next(","));
    if (!this.next("}")) this.fail("expected , or }");
    return found;
  }

  array(path) {
    const found = [];
    this.at += 1;
    if (this.next("]")) return found;
    do found.push(this.value(`${path}[${found.length}]`)); while (this.next(","));
    if (!this.next("]")) this.fail("expected , or ]");
    return found;
  }

  string() {
    let found = "";
    this.at += 1;
    for (;;) {
      const letter = this.text[this.at];
      if (letter === undefined || letter < " ") this.fail('expected " at the end of the text');
      this.at += 1;
      if (letter === '"') return found;
      found += letter === "\\" ? this.escaped() : letter;
    }
  }

  escaped() {
    const letter = this.text[this.at];
    if (letter === "u") {
      const code = this.text.slice(this.at + 1, this.at + 5);
      if (!/^[0-9a-f]{4}$/i.test(code)) this.fail("expected four digits after \\u");
      this.at += 5;
      return String.fromCharCode(parseInt(code, 16));
    }
    if (!(letter in ESCAPES)) this.fail("expected an escape such as \\n");
    this.at += 1;
    return ESCAPES[letter];
  }

  number() {
    const pattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) this.fail("expected a value");
    this.at += found[0].length;
    return Number(found[0]);
  }
}
