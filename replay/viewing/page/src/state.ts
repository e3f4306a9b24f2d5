// The page's state. Every part of the page reads it and changes it here; the address shows it.

import { NOTHING_OFFERED, remember, wasRun, type Offered } from "./statements";

/** A stretch of a recording, in seconds since its first row. */
export interface Range {
  from: number;
  to: number;
}

/** A row that an answer names: its position and its time. */
export interface Hit {
  i: number;
  t: number;
  count: number;
}

/** Which detections are drawn. */
export interface Filter {
  /** Labels that are hidden. */
  hidden: ReadonlySet<string>;
  /** Lowest score. */
  score: number;
  /** Condition in SQL over a detection, as in `dgrec replay --where`. */
  where: string;
}

export type Decode = "auto" | "webcodecs" | "video" | "server";

export interface Values {
  /** The recording shown; "": the list of recordings. */
  session: string;
  /** The recording beside it, whose frames are paired with its own; "": none. */
  other: string;
  /** Position of the row shown. */
  position: number;
  /** Its frame number, as the address says it; null until it is known. */
  frame: number | null;
  /** What the time line shows; null: all. */
  window: Range | null;
  /** The part that is marked; null: none. */
  range: Range | null;
  /** Index of the detection that is selected in the row shown. */
  selected: number | null;
  filter: Filter;
  sql: string;
  /** A link's statements that were not run yet. */
  offered: Offered;
  /** The rows of the last answer. */
  hits: readonly Hit[];
  playing: boolean;
  speed: number;
  loop: boolean;
  /** Whether the paths of tracks are drawn. */
  trails: boolean;
  /** Whether gaps longer than a second are played as one second. */
  shorten: boolean;
  decode: Decode;
  /** Whether the page stays at the newest row of a recording in progress. */
  follow: boolean;
}

export type Key = keyof Values;
type Listener = (values: Readonly<Values>, changed: ReadonlySet<Key>) => void;

const EVERYTHING: Filter = { hidden: new Set(), score: 0, where: "" };

const DEFAULTS: Values = {
  session: "",
  other: "",
  position: 0,
  frame: null,
  window: null,
  range: null,
  selected: null,
  filter: EVERYTHING,
  sql: "",
  offered: NOTHING_OFFERED,
  hits: [],
  playing: false,
  speed: 1,
  loop: false,
  trails: true,
  shorten: true,
  decode: "auto",
  follow: false,
};

export class State {
  private current: Values = { ...DEFAULTS };
  private readonly listeners = new Map<Listener, ReadonlySet<Key> | null>();
  private writing = 0;
  /** The address as it was last read or written; a different one is a link. */
  private address = "";

  /** @param isInAddress - whether the address shows this state, and is followed. */
  constructor(private readonly isInAddress = true) {}

  get values(): Readonly<Values> {
    return this.current;
  }

  /** Call `listener` whenever one of `keys` has changed; return a function that ends it. */
  on(keys: readonly Key[], listener: Listener): () => void {
    this.listeners.set(listener, new Set(keys));
    return () => this.listeners.delete(listener);
  }

  set(changes: Partial<Values>): void {
    const changed = new Set<Key>();
    for (const key of Object.keys(changes) as Key[]) {
      if (!same(this.current[key], changes[key])) changed.add(key);
    }
    if (changed.size === 0) return;
    // Going elsewhere ends following.
    if (changed.has("position") && !("follow" in changes) && this.current.follow) {
      changes = { ...changes, follow: false };
      changed.add("follow");
    }
    // Another row has other detections, unless the change says which one is selected.
    if (changed.has("position") && !("selected" in changes) && this.current.selected !== null) {
      changes = { ...changes, selected: null };
      changed.add("selected");
    }
    if (this.isInAddress) changes = this.noted(changes, changed);
    this.current = { ...this.current, ...changes };
    for (const [listener, keys] of [...this.listeners]) {
      if (keys && ![...keys].some((key) => changed.has(key))) continue;
      try {
        listener(this.current, changed);
      } catch (error) {
        reportError(error); // the other parts of the page continue
      }
    }
    this.writeSoon();
  }

  /** What was run in this tab may run again after a reload; it replaces what was offered. */
  private noted(changes: Partial<Values>, changed: Set<Key>): Partial<Values> {
    if (changes.sql !== undefined) remember(changes.sql);
    if (changes.filter) remember(changes.filter.where);
    if (changes.offered) return changes;
    const { offered } = this.current;
    const sql = changes.sql === undefined ? offered.sql : "";
    const where = changes.filter?.where ? "" : offered.where;
    if (sql === offered.sql && where === offered.where) return changes;
    changed.add("offered");
    return { ...changes, offered: { sql, where } };
  }

  /** Show the row at a position, everywhere on the page. */
  go(position: number, frame: number | null = null): void {
    this.set({ position, frame, follow: false }); // also where it is already
  }

  /** Show another recording, or the list (""), from its beginning. */
  show(session: string, values: Partial<Values> = {}): void {
    this.flush();
    const { decode, speed, shorten, trails } = this.current;
    this.set({ ...DEFAULTS, decode, speed, shorten, trails, session, ...values });
    window.clearTimeout(this.writing);
    this.writing = 0;
    const hash = toHash(this.current);
    if (hash !== location.hash) history.pushState(null, "", addressWith(hash));
    this.address = location.hash;
  }

  /** Take what the address says. */
  readHash(): void {
    const { speed, shorten, trails, session, other, position } = this.current;
    this.address = location.hash;
    const said = unrun(fromHash(this.address));
    // Its position is found by the frame; until then the page stays where it is.
    const stays = said.session === session && said.other === other && said.frame !== null;
    this.set({ ...DEFAULTS, speed, shorten, trails, ...said, position: stays ? position : 0 });
  }

  /** Follow the address when a link is opened or the browser goes back. */
  followHash(): void {
    window.addEventListener("hashchange", () => {
      if (location.hash !== this.address) this.readHash();
    });
    window.addEventListener("pagehide", () => {
      this.flush();
    });
  }

  private writeSoon(): void {
    // Browsers limit how often the address may change.
    if (!this.isInAddress) return;
    if (!this.writing) this.writing = window.setTimeout(() => { this.flush(); }, 300);
  }

  private flush(): void {
    if (!this.writing) return;
    window.clearTimeout(this.writing);
    this.writing = 0;
    if (location.hash !== this.address) return; // it is about to be read
    if (this.current.playing && this.current.session) {
      this.writeSoon();
      return;
    }
    // The frame is known once its row is here.
    if (this.current.session && this.current.frame === null && this.current.position) return;
    const hash = toHash(this.current);
    if (hash !== location.hash) history.replaceState(null, "", addressWith(hash));
    this.address = location.hash;
  }
}

/** The page's address; in a frame of a notebook, "#..." alone would mean the page around it. */
function addressWith(hash: string): string {
  return location.href.replace(/#.*/, "") + hash;
}

function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isRange(a) && isRange(b)) return a.from === b.from && a.to === b.to;
  return false;
}

function isRange(value: unknown): value is Range {
  return typeof value === "object" && value !== null && "from" in value && "to" in value;
}

/** The part of an address that restores the view. */
export function toHash(values: Readonly<Values>): string {
  const parts: [string, string][] = [];
  const add = (name: string, value: string) => {
    if (value) parts.push([name, value]);
  };
  add("s", values.session);
  if (values.session) {
    add("b", values.other);
    // A link made while following opens following.
    add("f", values.frame === null || values.follow ? "" : String(values.frame));
    add("d", values.selected === null ? "" : String(values.selected));
    add("w", rangeText(values.window));
    add("m", rangeText(values.range));
    add("hide", [...values.filter.hidden].map(encodeURIComponent).join(","));
    add("score", values.filter.score > 0 ? String(values.filter.score) : "");
    add("where", values.filter.where || values.offered.where);
  }
  add("q", values.sql || values.offered.sql);
  add("decode", values.decode === "auto" ? "" : values.decode);
  return parts.length ? "#" + parts.map(([n, v]) => `${n}=${escape(v)}`).join("&") : "";
}

export function fromHash(hash: string): Partial<Values> {
  const fields = new URLSearchParams(hash.replace(/^#/, "").replace(/\+/g, "%2B"));
  const score = Number(fields.get("score") ?? 0);
  const decode = fields.get("decode");
  const hidden = (fields.get("hide") ?? "").split(",").filter(Boolean).map(unescaped);
  return {
    session: fields.get("s") ?? "",
    other: fields.get("b") ?? "",
    frame: integer(fields.get("f")),
    selected: integer(fields.get("d")),
    window: toRange(fields.get("w")),
    range: toRange(fields.get("m")),
    filter: {
      hidden: new Set(hidden),
      score: score > 0 && score <= 1e6 ? score : 0,
      where: fields.get("where") ?? "",
    },
    sql: fields.get("q") ?? "",
    decode: decode === "webcodecs" || decode === "video" || decode === "server" ? decode : "auto",
  };
}

/** Statements of a link may be anybody's: those that were not run in this tab are only offered. */
function unrun(said: Partial<Values>): Partial<Values> {
  const { sql = "", filter = EVERYTHING } = said;
  const offered = { sql: wasRun(sql) ? "" : sql, where: wasRun(filter.where) ? "" : filter.where };
  return {
    ...said,
    offered,
    sql: offered.sql ? "" : sql,
    filter: offered.where ? { ...filter, where: "" } : filter,
  };
}

// Spaces and quotes would end a link in a terminal or a chat; slashes and commas need no escape.
function escape(text: string): string {
  return encodeURIComponent(text).replace(/%2F/g, "/").replace(/%2C/g, ",").replace(/'/g, "%27");
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function integer(text: string | null): number | null {
  return text !== null && /^-?\d{1,15}$/.test(text) ? Number(text) : null;
}

function rangeText(range: Range | null): string {
  return range ? `${rounded(range.from)}-${rounded(range.to)}` : "";
}

function rounded(seconds: number): string {
  return String(Number(seconds.toFixed(3)));
}

function toRange(text: string | null): Range | null {
  const match = /^(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)$/.exec(text ?? "");
  if (!match) return null;
  const [from, to] = [Number(match[1]), Number(match[2])];
  return from < to ? { from, to } : null;
}
