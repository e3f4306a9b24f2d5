// The recordings that the server has.

import { Choice } from "./choice";
import { isAbort, message, type SessionFacts, sessions, type Source } from "./data";
import { el } from "./dom";
import type { Keys } from "./keys";
import type { State } from "./state";
import { bytes, day, duration, rate } from "./words";

const WAIT_MS = 250;
/** The list is read again: more often while something is being recorded. */
const [AGAIN_MS, AGAIN_LIVE_MS] = [15_000, 3000];

interface Column {
  name: string;
  key: keyof SessionFacts | "size";
  numeric: boolean;
  text: (facts: SessionFacts) => string;
}

const size = (facts: SessionFacts) => (facts.bytes ?? 0) + (facts.video_bytes ?? 0);
const whole = (value: number | null) => (value === null ? "–" : value.toLocaleString("en"));
const COLUMNS: Column[] = [
  { name: "recording", key: "s", numeric: false, text: ({ s }) => s },
  { name: "began", key: "started_at", numeric: false, text: ({ started_at }) => day(started_at) },
  { name: "length", key: "duration_s", numeric: true, text: ({ duration_s }) => duration(duration_s) },
  { name: "frames", key: "frames", numeric: true, text: ({ frames }) => whole(frames) },
  { name: "fps", key: "fps", numeric: true, text: ({ fps }) => rate(fps) },
  { name: "dropped", key: "dropped", numeric: true, text: ({ dropped }) => whole(dropped) },
  { name: "detections", key: "detections", numeric: true, text: ({ detections }) => whole(detections) },
  { name: "model", key: "model", numeric: false, text: ({ model }) => model ?? "–" },
  { name: "size", key: "size", numeric: true, text: (facts) => bytes(size(facts)) },
  { name: "state", key: "state", numeric: false, text: ({ state }) => state },
];
/** More would make the page slow; the filters find the others. */
const MOST = 2000;

export class ListPage {
  private readonly text: HTMLInputElement;
  private readonly where: HTMLInputElement;
  private readonly status = el("span", { class: "list-status", role: "status" });
  private readonly body = el("tbody", {});
  private readonly head: HTMLElement;
  private readonly choice: Choice;
  private readonly offKeys: () => void;
  private facts: SessionFacts[] = [];
  private sorted: { key: Column["key"]; down: boolean } = { key: "started_at", down: true };
  private asking = new AbortController();
  private waiting = 0;
  private again = 0;

  constructor(
    private readonly element: HTMLElement,
    private readonly source: Source,
    private readonly state: State,
    keys: Keys,
  ) {
    const field = (label: string, placeholder: string, kind: string) => {
      const input = el("input", { type: "search", "aria-label": label, placeholder, class: kind, spellcheck: "false" });
      input.addEventListener("input", () => { this.loadSoon(); });
      return input;
    };
    this.text = field("Filter by text", "Filter: name, model, source, state", "list-text");
    this.where = field("Filter by SQL", "SQL: dropped > 0 AND model = 'face'", "list-where");
    this.where.hidden = !source.hasServer;
    this.choice = new Choice(
      () => this.body.querySelectorAll<HTMLInputElement>("input[data-choose]"),
      (a, b) => { state.show(a, { other: b }); },
    );
    this.choice.button.hidden = !source.hasServer;
    this.head = el("tr", {}, el("th", { class: "list-pick", "aria-hidden": "true" }), el("th", { class: "list-thumb", "aria-hidden": "true" }), ...COLUMNS.map((column) => this.header(column)));
    element.replaceChildren(
      el("div", { class: "list-bar", role: "search" }, this.text, this.where, this.choice.button, this.status),
      el("table", { class: "list-table", "aria-label": "Recordings" }, el("thead", {}, this.head), this.body),
    );
    this.offKeys = keys.add(
      { keys: ["/"], group: "Recordings", text: "filter", run: () => { this.text.focus(); } },
      { keys: ["ArrowDown", "j"], group: "Recordings", text: "next recording; Enter opens it", run: () => { this.step(1); } },
      { keys: ["ArrowUp", "k"], group: "Recordings", text: "the recording before", run: () => { this.step(-1); } },
      { keys: ["c"], group: "Recordings", text: "choose the recording for a comparison; again: not", run: () => { this.choose(); } },
      { keys: ["C"], group: "Recordings", text: "compare the two that are chosen", run: () => { this.choice.button.click(); } },
    );
    void this.load();
  }

  close(): void {
    this.asking.abort();
    window.clearTimeout(this.waiting);
    window.clearTimeout(this.again);
    this.offKeys();
    this.element.replaceChildren();
  }

  private header({ name, key, numeric }: Column): HTMLElement {
    const button = el("button", { type: "button", class: "quiet", click: () => { this.sort(key); } }, name);
    return el("th", { scope: "col", class: numeric ? "number" : "", "data-key": key }, button);
  }

  private sort(key: Column["key"]): void {
    this.sorted = { key, down: this.sorted.key === key ? !this.sorted.down : key === "started_at" };
    this.draw();
  }

  private loadSoon(): void {
    window.clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => void this.load(), WAIT_MS);
  }

  private async load(): Promise<void> {
    this.asking.abort();
    this.asking = new AbortController();
    window.clearTimeout(this.again);
    try {
      const found = await sessions(this.source, this.text.value.trim(), this.where.value.trim(), this.asking.signal);
      this.say("");
      if (JSON.stringify(found) !== JSON.stringify(this.facts) || !found.length) {
        this.facts = found;
        this.draw();
      }
    } catch (error) {
      if (isAbort(error)) return;
      this.say(message(error), true);
    }
    const isLive = this.facts.some(({ state }) => state.includes("being recorded"));
    this.again = window.setTimeout(() => void this.load(), isLive ? AGAIN_LIVE_MS : AGAIN_MS);
  }

  private say(text: string, wrong = false): void {
    this.status.textContent = text || count(this.facts.length);
    this.status.classList.toggle("wrong", wrong);
  }

  private draw(): void {
    const { key, down } = this.sorted;
    for (const cell of this.head.querySelectorAll<HTMLElement>("[data-key]")) {
      const is = cell.dataset.key === key;
      if (is) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    const value = (facts: SessionFacts) => (key === "size" ? size(facts) : facts[key]);
    this.choice.keep(this.facts.map(({ s }) => s));
    const rows = [...this.facts].sort((a, b) => compare(value(a), value(b), down ? -1 : 1));
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.s : undefined;
    this.body.replaceChildren(...rows.slice(0, MOST).map((facts) => this.row(facts)));
    if (focused !== undefined) this.links().find(({ dataset }) => dataset.s === focused)?.focus();
    this.say(rows.length > MOST ? `${count(rows.length)}, the first ${MOST} are shown` : "");
    this.element.classList.toggle("empty", rows.length === 0);
  }

  private row(facts: SessionFacts): HTMLElement {
    const canOpen = facts.frames !== null;
    const cells = COLUMNS.map((column, c) => {
      const text = column.text(facts);
      if (c > 0) return el("td", { class: `list-${column.key} ${column.numeric ? "number" : ""}`, "data-name": column.name, title: text.length > 24 ? text : null }, text);
      const href = `#s=${encodeURIComponent(facts.s)}`;
      const name = canOpen ? el("a", { href, "data-s": facts.s }, text) : el("span", { class: "list-closed", tabindex: 0, "data-s": facts.s }, text);
      const why = facts.problem?.replace(`${facts.path}: `, "") ?? "";
      const problem = why ? el("p", { class: "list-problem", title: why }, why) : null;
      return el("th", { scope: "row", class: "list-name" }, name, problem);
    });
    const pick = el("td", { class: "list-pick" }, canOpen ? this.choice.box(facts.s) : null);
    const row = el("tr", { class: `${canOpen ? "" : "closed"} ${stateClass(facts.state)}` }, pick, el("td", { class: "list-thumb" }, canOpen ? this.thumb(facts) : null), ...cells);
    if (canOpen) {
      row.addEventListener("click", (event) => {
        if (event.target instanceof Element && event.target.closest("a, .list-pick")) return;
        if (!window.getSelection()?.toString()) this.state.show(facts.s);
      });
    }
    return row;
  }

  private thumb({ s }: SessionFacts): HTMLImageElement {
    const image = el("img", { src: this.source.address("api/thumb", { s }), alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => { image.remove(); });
    return image;
  }

  private links(): HTMLElement[] {
    return [...this.body.querySelectorAll<HTMLElement>("[data-s]")];
  }

  private choose(): void {
    const { activeElement } = document;
    const name = activeElement instanceof HTMLElement ? activeElement.dataset.s : undefined;
    if (name !== undefined) this.choice.choose(name);
  }

  private step(by: 1 | -1): void {
    const links = this.links();
    const now = links.findIndex((link) => link === document.activeElement);
    const next = now < 0 ? links[by > 0 ? 0 : links.length - 1] : links[now + by];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }
}

function count(n: number): string {
  return n === 1 ? "1 recording" : `${n.toLocaleString("en")} recordings`;
}

/** Unknown values come last in either direction. */
function compare(a: string | number | null, b: string | number | null, direction: 1 | -1): number {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  if (typeof a === "string") return direction * a.localeCompare(String(b), "en", { numeric: true });
  return direction * (a - Number(b));
}

function stateClass(state: string): string {
  if (state.includes("being recorded")) return "is-live";
  return /damaged|not a session/.test(state) ? "is-bad" : state.includes("cut off") ? "is-cut" : "";
}
