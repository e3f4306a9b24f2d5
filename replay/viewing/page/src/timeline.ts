// The lines and marks below the picture, all in step with the frame shown.

import { Chart } from "./chart";
import { isAbort, message, type Session } from "./data";
import { el } from "./dom";
import { Gestures, type Meanings } from "./gestures";
import type { Keys } from "./keys";
import { Lanes } from "./lanes";
import { LineMenu, linesOf, usualLines, type Line } from "./lines";
import { Minimap } from "./minimap";
import { RangePanel } from "./range";
import type { Range, State } from "./state";
import { View } from "./view";
import { clock } from "./words";

const ROW_HEIGHT = 86;
/** A stretch is asked for once nothing has moved for this long. */
const WAIT_MS = 90;
/** How often a recording in progress is asked for, in ms, and the share of the time that may take. */
const GROWS_MS = 1000;
const MOST_MS = 10_000;
const SHARE = 0.2;
/** Loaded on each side of the stretch shown, as a part of it. */
const BESIDE = 0.25;

export class Timeline {
  private readonly view = new View();
  private lines: Line[];
  private readonly chosen: Set<string>;
  private charts: Chart[] = [];
  private readonly lanes: Lanes;
  private readonly minimap: Minimap;
  private readonly range: RangePanel;
  private readonly menu: LineMenu;
  private readonly gestures: Gestures;
  private readonly ruler = el("div", { class: "ruler", "aria-hidden": "true" });
  private readonly rows = el("div", { class: "rows" });
  private readonly cursor = el("div", { class: "line-cursor", hidden: true });
  private readonly pointer = el("div", { class: "line-pointer", hidden: true });
  private readonly drawn = el("div", { class: "line-stretch", hidden: true });
  private readonly marked = el("div", { class: "line-marked", hidden: true });
  private readonly hint = el("div", { class: "line-hint", role: "tooltip", hidden: true });
  private readonly note = el("p", { class: "line-note", hidden: true });
  private readonly overlay = el("div", { class: "line-overlay" }, this.marked, this.drawn, this.pointer, this.cursor, this.hint);
  private readonly area: HTMLElement;
  private readonly shownText = el("span", { class: "line-window" });
  private readonly ends: (() => void)[] = [];
  private readonly resized: ResizeObserver;
  private loading = new AbortController();
  private waiting = 0;
  private isKnown = false;
  private growing = 0;
  /** How long it took to load what is shown. */
  private took = 0;
  private hovered: number | null = null;
  private scrubbing: number | null = null;
  private isScrubbing = false;
  /** The session's epoch when times were loaded. */
  private epoch: number;

  constructor(
    private readonly element: HTMLElement,
    readonly session: Session,
    readonly state: State,
    readonly keys: Keys,
  ) {
    this.lines = linesOf(session);
    this.chosen = usualLines(this.lines, session);
    this.lanes = new Lanes(this.view, state, (kind, dir) => void this.jump(kind, dir));
    this.minimap = new Minimap(this.view, (window) => { state.set({ window }); });
    this.range = new RangePanel(session, state);
    this.menu = new LineMenu(this.chosen, () => { this.rebuild(); }, session);
    this.menu.show(this.lines);
    this.epoch = session.epoch;
    this.area = el("div", { class: "line-area" }, this.ruler, this.rows, this.lanes.element, this.overlay);
    this.gestures = new Gestures(this.area, this.ruler, this.view, () => this.left, this.means());
    element.replaceChildren(this.toolbar(), this.note, this.area, this.minimap.element, this.range.element);
    this.view.full = { from: 0, to: Math.max(session.card.duration_s ?? 0, 1e-3) };
    this.view.window = state.values.window;
    this.resized = new ResizeObserver(() => { this.resize(); });
    this.resized.observe(this.area);
    const scheme = window.matchMedia("(prefers-color-scheme: dark)");
    const restyle = () => {
      for (const chart of this.charts) chart.restyle();
      this.lanes.draw();
      this.minimap.draw();
    };
    scheme.addEventListener("change", restyle);
    this.ends.push(
      () => { scheme.removeEventListener("change", restyle); },
      state.on(["window"], () => { this.follow(); }),
      state.on(["position"], () => { this.place(); }),
      session.on(() => { this.changed(); }),
      state.on(["range"], () => { this.placeRange(); }),
      state.on(["hits"], ({ hits }) => { this.lanes.setFound([...hits]); this.place(); }),
      keys.add(...this.shortcuts()),
    );
    this.measure();
    this.rebuild();
    this.lanes.setFound([...state.values.hits]);
  }

  /** Remove everything that this has put on the page, and its listeners. */
  close(): void {
    this.loading.abort();
    window.clearTimeout(this.waiting);
    window.clearTimeout(this.growing);
    for (const end of this.ends) end();
    this.resized.disconnect();
    this.gestures.close();
    this.menu.close();
    this.range.close();
    for (const chart of this.charts) chart.close();
    delete this.element.dataset.drawn;
    delete this.element.dataset.position;
    this.element.replaceChildren();
  }

  private toolbar(): HTMLElement {
    const button = (text: string, title: string, run: () => void) =>
      el("button", { type: "button", class: "quiet", title, "aria-label": title.replace(/ \(.*/, ""), click: run }, text);
    return el(
      "div",
      { class: "line-bar", role: "toolbar", "aria-label": "Time line" },
      this.menu.element,
      this.shownText,
      button("−", "Show more time (o)", () => { this.zoom(2); }),
      button("+", "Show less time (i)", () => { this.zoom(0.5); }),
      button("All", "Show all of it (a)", () => { this.state.set({ window: null }); }),
    );
  }

  // What is shown

  private get gutter(): number {
    return this.element.clientWidth < 560 ? 58 : 84;
  }

  private get left(): number {
    return this.area.getBoundingClientRect().left + this.gutter;
  }

  /** Seconds from one frame to the next, on average. */
  private get usualStep(): number {
    return (this.session.card.duration_s ?? 0) / Math.max(1, this.session.n);
  }

  private measure(): void {
    this.view.width = Math.max(120, this.area.clientWidth - this.gutter);
    this.element.style.setProperty("--gutter", `${this.gutter}px`);
  }

  private resize(): void {
    const before = this.view.width;
    this.measure();
    if (before === this.view.width) return;
    for (const chart of this.charts) chart.resize();
    this.follow();
    this.minimap.draw();
  }

  /** Make the rows for the lines that are chosen. */
  private rebuild(): void {
    for (const chart of this.charts) chart.close();
    const groups = new Map<string, Line[]>();
    for (const line of this.lines.filter(({ name }) => this.chosen.has(name))) {
      groups.set(line.group, [...(groups.get(line.group) ?? []), line]);
    }
    this.charts = [...groups].map(
      ([group, lines]) => new Chart(group, lines, this.view, () => this.gutter, ROW_HEIGHT, this.usualStep),
    );
    this.rows.replaceChildren(...this.charts.map(({ element }) => element));
    this.draw();
    void this.load();
  }

  /** The window has changed: show it with the data that are there, then with its own. */
  private follow(): void {
    this.view.window = this.state.values.window;
    this.draw();
    for (const chart of this.charts) chart.rescale();
    window.clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => void this.load(), WAIT_MS);
  }

  /** There are more rows, more is known of them, or their times have changed. */
  private changed(): void {
    const { session } = this;
    if (this.epoch !== session.epoch) {
      this.epoch = session.epoch;
      void this.load();
    }
    const known = new Map(this.lines.map((line) => [line.name, line]));
    const lines = linesOf(session).map((line) => known.get(line.name) ?? line);
    if (lines.some(({ name }) => !known.has(name))) {
      this.lines = lines;
      const { size } = this.chosen;
      const usual = this.menu.isUsed ? [] : [...usualLines(lines, session)];
      for (const name of usual) if (this.chosen.size <= usual.length) this.chosen.add(name);
      this.menu.show(lines);
      if (this.chosen.size > size) this.rebuild();
    }
    this.growSoon();
  }

  /** There are more rows: load their part, if it is in sight. */
  private growSoon(): void {
    const { isLive } = this.session;
    if (this.growing && isLive) return;
    window.clearTimeout(this.growing);
    const wait = Math.min(Math.max(GROWS_MS, this.took / SHARE), MOST_MS);
    this.growing = window.setTimeout(() => void this.grow(), isLive ? wait : 0);
  }

  private async grow(): Promise<void> {
    const last = await this.session.row(this.session.n - 1).catch(() => null);
    this.growing = 0;
    const end = last?.t ?? null;
    if (end === null) return;
    const before = this.view.full.to;
    const { window: shown } = this.view;
    if (shown && end > before) this.setFull({ from: this.view.full.from, to: end });
    if (shown && this.state.values.follow && shown.to >= before - 1e-3) {
      this.state.set({ window: { from: end - (shown.to - shown.from), to: end } });
    } else if (!shown || shown.to + (shown.to - shown.from) * BESIDE >= before) {
      void this.load();
    }
  }

  private draw(): void {
    const ticks = this.view.ticks(90).map(({ t, text }) => {
      const tick = el("span", {}, text);
      tick.style.transform = `translateX(${this.view.x(t)}px)`;
      return tick;
    });
    this.ruler.replaceChildren(...ticks);
    const { from, to } = this.view.shown;
    this.shownText.textContent = this.isKnown || this.view.window ? `${clock(from)} – ${clock(to)}` : "";
    this.lanes.draw();
    this.minimap.follow();
    this.placeRange();
    this.place();
  }

  private async load(): Promise<void> {
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    const { window: shown } = this.view;
    const beside = shown ? (shown.to - shown.from) * BESIDE : 0;
    const [from, to] = shown ? [shown.from - beside, shown.to + beside] : [null, null];
    const width = Math.round(this.view.width * (shown ? 1 + 2 * BESIDE : 1));
    this.area.setAttribute("aria-busy", "true");
    const began = performance.now();
    try {
      await this.loadLines(from, to, width, signal);
      await this.loadMarks(from, to, width, signal);
      if (shown && !this.minimap.isKnown) await this.loadWhole(signal);
      this.took = performance.now() - began;
      this.say("");
    } catch (error) {
      if (isAbort(error)) return;
      this.say(message(error));
    }
    this.area.removeAttribute("aria-busy");
  }

  /** Each row separately: stages take the server less time than labels. */
  private async loadLines(from: number | null, to: number | null, width: number, signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.charts.map(async (chart, k) => {
        const names = chart.lines.map(({ name }) => name);
        const answer = await this.session.series(names, from, to, width, signal);
        if (from === null && k === 0) {
          this.setFull({ from: answer.from, to: answer.to });
          this.minimap.set(answer, names[0] ?? "");
        }
        chart.setData(answer);
        this.place();
      }),
    );
    if (!signal.aborted) this.element.dataset.drawn = `${this.view.shown.from}-${this.view.shown.to}`;
  }

  /** Ask for the marks again: there are more of them by now. */
  refreshMarks(): void {
    const { window: shown } = this.view;
    const beside = shown ? (shown.to - shown.from) * BESIDE : 0;
    const [from, to] = shown ? [shown.from - beside, shown.to + beside] : [null, null];
    const width = Math.round(this.view.width * (shown ? 1 + 2 * BESIDE : 1));
    void this.loadMarks(from, to, width, this.loading.signal).catch(() => undefined);
  }

  private async loadMarks(from: number | null, to: number | null, width: number, signal: AbortSignal): Promise<void> {
    this.lanes.set(await this.session.marks(from, to, width, signal));
  }

  private async loadWhole(signal: AbortSignal): Promise<void> {
    const name = this.charts[0]?.lines[0]?.name ?? "latency_ms";
    const answer = await this.session.series([name], null, null, Math.round(this.view.width), signal);
    this.minimap.set(answer, name);
    this.setFull({ from: answer.from, to: answer.to });
  }

  private setFull(full: Range): void {
    if (full.to <= full.from) return;
    this.isKnown = true;
    this.view.full = full;
    this.draw();
    for (const chart of this.charts) chart.rescale();
  }

  private say(text: string): void {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  // Where the frame shown is

  private place(): void {
    const { position, playing } = this.state.values;
    const row = this.session.rowNow(position);
    if (!row) {
      void this.session.row(position).then(
        () => { if (this.state.values.position === position && this.session.rowNow(position)) this.place(); },
        () => undefined,
      );
      return;
    }
    const { t } = row;
    const isSeen = t !== null && this.view.has(t);
    this.cursor.hidden = !isSeen;
    if (t !== null) {
      this.cursor.style.transform = `translateX(${this.view.x(t)}px)`;
      this.element.dataset.position = String(t);
      // While playing, the stretch shown moves along.
      if (playing && this.view.window && t > this.view.window.to) {
        this.state.set({ window: this.view.within(t, this.view.span) });
      }
    }
    if (this.hovered !== null) return;
    // Outside of the stretch shown, only lines of the row itself have a value.
    for (const chart of this.charts) chart.say(isSeen ? t : null, this.session.measured(row));
  }

  private placeRange(): void {
    const { range } = this.state.values;
    this.put(this.marked, range ? [range.from, range.to] : null);
  }

  private put(element: HTMLElement, stretch: [number, number] | null): void {
    element.hidden = !stretch;
    if (!stretch) return;
    const [from, to] = stretch.map((t) => Math.min(Math.max(this.view.x(t), -2), this.view.width + 2)) as [number, number];
    element.style.transform = `translateX(${from}px)`;
    element.style.width = `${Math.max(1, to - from)}px`;
  }

  // Actions

  private means(): Meanings {
    return {
      go: (t, clientY) => void this.go(t, clientY),
      scrub: (t) => { this.scrub(t); },
      hover: (x, clientY) => { this.hover(x, clientY); },
      zoom: (factor, at) => { this.state.set({ window: this.view.zoomed(factor, at) }); },
      pan: (seconds) => { this.state.set({ window: this.view.panned(seconds) }); },
      window: (from, to) => { this.state.set({ window: this.view.within(from, Math.max(to - from, 0.002)) }); },
      mark: (from, to) => { if (to > from) this.state.set({ range: { from, to } }); },
      drawing: (stretch, marks) => {
        this.drawn.classList.toggle("marks", marks);
        this.put(this.drawn, stretch);
      },
      all: () => { this.state.set({ window: null }); },
    };
  }

  private async go(t: number, clientY: number): Promise<void> {
    const pointed = this.lanes.pointed(clientY, this.view.x(t));
    this.state.set({ playing: false });
    if (pointed) {
      this.state.go(pointed.mark.i);
      return;
    }
    if (this.lanes.contains(clientY)) return;
    await this.goTo(t);
  }

  private async goTo(t: number): Promise<void> {
    try {
      this.state.go(await this.session.at({ t }));
    } catch (error) {
      if (!isAbort(error)) this.say(message(error));
    }
  }

  /** Ask for one frame at a time; of those in between, only the last counts. */
  private scrub(t: number): void {
    this.scrubbing = t;
    if (this.isScrubbing) return;
    this.isScrubbing = true;
    this.state.set({ playing: false });
    void (async () => {
      while (this.scrubbing !== null) {
        const wanted = this.scrubbing;
        this.scrubbing = null;
        await this.goTo(wanted);
      }
      this.isScrubbing = false;
    })();
  }

  private hover(x: number | null, clientY: number): void {
    this.pointer.hidden = x === null;
    this.hint.hidden = x === null;
    this.hovered = x === null ? null : this.view.t(x);
    if (x === null || this.hovered === null) {
      this.area.classList.remove("on-mark");
      this.place();
      return;
    }
    this.pointer.style.transform = `translateX(${x}px)`;
    const pointed = this.lanes.pointed(clientY, x);
    this.area.classList.toggle("on-mark", !!pointed);
    this.hint.textContent = pointed ? pointed.text : clock(this.hovered);
    this.hint.classList.toggle("of-mark", !!pointed);
    const room = this.hint.offsetWidth;
    this.hint.style.transform = `translateX(${Math.min(Math.max(x - room / 2, -this.gutter), this.view.width - room)}px)`;
    for (const chart of this.charts) chart.say(this.hovered, {});
  }

  private zoom(factor: number): void {
    const t = this.session.rowNow(this.state.values.position)?.t ?? null;
    const { from, to } = this.view.shown;
    const at = t !== null && this.view.has(t) ? t : (from + to) / 2;
    this.state.set({ window: this.view.zoomed(factor, at) });
  }

  private async jump(kind: string, dir: 1 | -1): Promise<void> {
    const found = await this.session.next(this.state.values.position, kind, dir).catch(() => null);
    if (found === null) return;
    this.state.set({ playing: false });
    this.state.go(found);
    await this.reveal(found);
  }

  /** Move the stretch shown so that a row is in it. */
  private async reveal(i: number): Promise<void> {
    const t = (await this.session.row(i).catch(() => null))?.t ?? null;
    if (t === null || this.view.has(t) || this.state.values.position !== i) return;
    this.state.set({ window: this.view.within(t - this.view.span / 2, this.view.span) });
  }

  private shortcuts() {
    const add = (key: string, text: string, run: () => void) => ({ keys: [key], group: "Time line", text, run });
    return [
      add("i", "show less time", () => { this.zoom(0.5); }),
      add("o", "show more time", () => { this.zoom(2); }),
      add("a", "show all of it", () => { this.state.set({ window: null }); }),
      add("z", "show the marked part", () => { if (this.state.values.range) this.state.set({ window: this.state.values.range }); }),
      add("PageUp", "earlier", () => { this.state.set({ window: this.view.panned(-this.view.span / 2) }); }),
      add("PageDown", "later", () => { this.state.set({ window: this.view.panned(this.view.span / 2) }); }),
    ];
  }
}

