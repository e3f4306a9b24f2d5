// A recorded value as text: a tree that opens and closes.
import type { Cell } from "./data";
import { el } from "./dom";

/** Longer lists are cut. */
const MOST = 200;
/** The most plain values of a list in one line. */
const INLINE = 8;
/** The same for an object. */
const INLINE_FIELDS = 5;
/** Branches are open down to here. */
const OPEN_DEPTH = 2;
/** Longer texts have a line of their own. */
const LONGEST_FIELD = 40;
/** Longer texts are cut. */
const LONGEST = 2000;

/** Return the branches of an object or a list, each with its name. */
export function tree(value: Cell, depth = 0): HTMLElement {
  const entries: [string, Cell][] = Array.isArray(value)
    ? value.slice(0, MOST).map((item, index) => [String(index), item])
    : Object.entries(isObject(value) ? value : { value }).slice(0, MOST);
  const size = Array.isArray(value) ? value.length : isObject(value) ? Object.keys(value).length : 1;
  const left = size - entries.length;
  return el(
    "ul",
    { class: "tree" },
    ...entries.map(([name, item]) => branch(name, item, depth)),
    left > 0 ? el("li", { class: "soft" }, `and ${left.toLocaleString("en")} more`) : null,
  );
}

function branch(name: string, value: Cell, depth: number): HTMLElement {
  const line = inline(value);
  const key = el("bdi", { class: "tree-name" }, name);
  if (line !== null) return el("li", {}, key, el("bdi", { class: "tree-value" }, line));
  const size = Array.isArray(value) ? value.length : Object.keys(value as object).length;
  const noun = Array.isArray(value) ? "values" : "fields";
  const box = el(
    "details",
    { open: depth + 1 < OPEN_DEPTH && size <= MOST },
    el("summary", {}, key, el("span", { class: "soft" }, `${size.toLocaleString("en")} ${noun}`)),
  );
  // Built when it is opened: values may be large, and deep.
  const fill = (): void => {
    if (box.open && box.childElementCount === 1) box.append(tree(value, depth + 1));
  };
  box.addEventListener("toggle", fill);
  fill();
  return el("li", {}, box);
}

/** Return a value that fits into a line as text; null if it does not. */
function inline(value: Cell): string | null {
  if (Array.isArray(value)) {
    if (value.length > INLINE || !value.every(isPlain)) return null;
    return value.length ? value.map((item) => inline(item) ?? "").join(", ") : "none";
  }
  if (isObject(value)) return fields(Object.entries(value));
  if (value === null) return "–";
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return value.length > LONGEST ? `${value.slice(0, LONGEST)}…` : value;
}

function fields(entries: [string, Cell][]): string | null {
  if (!entries.length) return "none";
  if (entries.length > INLINE_FIELDS) return null;
  const parts = entries.map(([, value]) => (isObject(value) ? null : inline(value)));
  if (parts.some((part) => part === null || part.length > LONGEST_FIELD)) return null;
  return entries.map(([name], index) => `${name} ${parts[index] ?? ""}`).join(" · ");
}

/** Six significant digits; all digits of whole numbers. */
function number(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

function isPlain(value: Cell): boolean {
  return value === null || typeof value !== "object";
}

function isObject(value: Cell): value is { [name: string]: Cell } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
