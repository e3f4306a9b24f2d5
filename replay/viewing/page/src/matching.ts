// Detections that a condition in SQL keeps: asked of the server some rows at a time.

import { isAbort, message, type Session } from "./data";
import { el } from "./dom";
import type { State } from "./state";

const ROWS = 300;
const KEPT = 20;

/** The answers to one condition after the other. */
export class Matching {
  private text = "";
  private readonly parts = new Map<number, ReadonlyMap<number, ReadonlySet<number>>>();
  private readonly pending = new Set<number>();
  private abort = new AbortController();
  private readonly off: () => void;
  private n: number;
  private epoch: number;
  /** Why the condition cannot be answered; "": it can. */
  problem = "";

  constructor(
    private readonly session: Session,
    /** Called when more is known, or there is a problem. */
    private readonly changed: () => void,
  ) {
    this.n = session.n;
    this.epoch = session.epoch;
    this.off = session.on(() => { this.grew(); });
  }

  close(): void {
    this.off();
    this.abort.abort();
  }

  /** Ask again for the last rows that were known. */
  private grew(): void {
    if (this.epoch !== this.session.epoch) {
      this.epoch = this.session.epoch;
      this.begin(this.text);
    }
    const first = Math.floor(Math.max(0, Math.min(this.n, this.session.n) - 1) / ROWS);
    for (const part of [...this.parts.keys()]) if (part >= first) this.parts.delete(part);
    this.n = this.session.n;
  }

  /** The detections of a row that are kept; null: all; undefined: asked, but not known yet. */
  keeps(where: string, i: number): ReadonlySet<number> | null | undefined {
    const text = where.trim();
    if (text !== this.text) this.begin(text);
    if (!text || this.problem) return null;
    const part = Math.floor(i / ROWS);
    const known = this.parts.get(part);
    if (known) return known.get(i) ?? new Set();
    if (!this.pending.has(part)) void this.load(part);
    return undefined;
  }

  private begin(text: string): void {
    this.abort.abort();
    this.abort = new AbortController();
    this.text = text;
    this.problem = "";
    this.parts.clear();
    this.pending.clear();
  }

  private async load(part: number): Promise<void> {
    const { signal } = this.abort;
    this.pending.add(part);
    try {
      const found = await this.session.matches(this.text, part * ROWS, Math.min((part + 1) * ROWS, this.session.n), signal);
      this.parts.set(part, new Map(Object.entries(found.keep).map(([i, of]) => [Number(i), new Set(of)])));
      for (const oldest of this.parts.keys()) {
        if (this.parts.size <= KEPT) break;
        this.parts.delete(oldest);
      }
    } catch (error) {
      if (isAbort(error)) return;
      this.problem = message(error);
    }
    this.pending.delete(part);
    this.changed();
  }
}

/** The field in which a condition is written. */
export class WhereField {
  readonly element: HTMLElement;
  private readonly input: HTMLInputElement;
  private readonly status = el("span", { class: "where-status", role: "status" });
  private readonly matching: Matching;
  private readonly off: () => void;
  private waiting = 0;

  constructor(
    session: Session,
    private readonly state: State,
  ) {
    this.input = el("input", {
      type: "search",
      class: "where-text",
      spellcheck: "false",
      placeholder: "score > 0.6 AND label = 'person'",
      title: "A condition in SQL over the view detections: only those that match are drawn",
    });
    this.input.addEventListener("input", () => {
      window.clearTimeout(this.waiting);
      this.waiting = window.setTimeout(() => { this.apply(); }, 300);
    });
    this.input.addEventListener("change", () => { this.apply(); });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.input.blur();
      if (event.key === "Enter") this.apply();
    });
    this.matching = new Matching(session, () => { this.check(); });
    this.element = el("label", { class: "where" }, el("span", {}, "Draw detections where"), this.input, this.status);
    this.off = state.on(["filter", "offered", "position"], () => { this.follow(); });
    this.follow();
  }

  close(): void {
    window.clearTimeout(this.waiting);
    this.off();
    this.matching.close();
  }

  private apply(): void {
    const where = this.input.value.trim();
    const { filter } = this.state.values;
    if (where !== filter.where) this.state.set({ filter: { ...filter, where } });
  }

  private follow(): void {
    const { filter, offered } = this.state.values;
    if (document.activeElement !== this.input) this.input.value = filter.where || offered.where;
    this.check();
  }

  /** Show whether the condition can be answered. */
  private check(): void {
    const { filter, offered, position } = this.state.values;
    this.matching.keeps(filter.where, position);
    this.status.textContent = this.matching.problem || (offered.where ? "from the link: Enter applies it" : "");
    this.input.setAttribute("aria-invalid", String(!!this.matching.problem));
  }
}
