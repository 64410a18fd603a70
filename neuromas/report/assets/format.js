// Numbers and times as people read them. "–" stands for a value that is not known.

export const UNKNOWN = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Return a number with about three digits that count. */
export function number(value, digits = 3) {
  if (!isNumber(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(Math.max(digits - 2, 1));
  return String(Number(value.toPrecision(Math.max(digits, String(Math.trunc(size)).length))));
}

/** Return a share with one decimal, as the command line and the report write it: 97.7 %. */
export function percent(value) {
  return isNumber(value) ? `${(100 * value).toFixed(1)} %` : UNKNOWN;
}

/** Return a change of a share in points, with its sign. */
export function points(value) {
  return isNumber(value) ? `${value < 0 ? "" : "+"}${(100 * value).toFixed(1)}` : UNKNOWN;
}

/** Return a p-value with two digits; below a millionth it is only said to be so. */
export function chance(value) {
  if (!isNumber(value)) return UNKNOWN;
  return value < 1e-6 ? "<1e-6" : String(Number(value.toPrecision(2)));
}

/** Return a count with its thousands apart. */
export function count(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en") : UNKNOWN;
}

/** Return seconds as the largest two units. */
export function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  if (seconds < 10) return `${number(seconds, 2)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** Return how long ago a moment was, from unix seconds. */
export function ago(time) {
  if (!isNumber(time)) return UNKNOWN;
  const seconds = Date.now() / 1000 - time;
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(1000 * time).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

/** Return a moment as date and time, from unix seconds. */
export function moment(time) {
  return isNumber(time) ? new Date(1000 * time).toLocaleString() : UNKNOWN;
}

/** Return bytes in the unit that fits. */
export function bytes(value) {
  if (!isNumber(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let amount = value;
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) { amount /= 1024; unit += 1; }
  return `${unit === 0 ? amount : number(amount, 3)} ${units[unit]}`;
}

/** Return a count with its noun. */
export function plural(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** Return a growth plan in words. */
export function planWords(plan) {
  const edits = (plan && plan.edits) || [];
  return edits.map(editWords).join(", then ") || "no edits";
}

function editWords(edit) {
  const list = (values) => (values || []).map((value) => (Array.isArray(value) ? value.join("→") : value)).join(", ");
  switch (edit.edit) {
    case "append": return `layers ${list(edit.layers)} appended`;
    case "before_output": return `${plural(edit.width ?? 1, "node")} before the output`;
    case "widen": return `layer ${edit.layer} wider by ${edit.count ?? 1}`;
    case "deepen": return `a layer of ${edit.width ?? 1} after layer ${edit.after_layer}`;
    case "graft": return "grafted into a larger graph";
    case "connect": return `edges ${list(edit.edges)} added`;
    case "prune": return `${list(edit.nodes)} removed`;
    default: return String(edit.edit);
  }
}
