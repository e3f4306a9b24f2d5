// The picture and its overlay, one above the other, and their zoom.

import type { Row, Session } from "./data";
import { el, slot } from "./dom";
import type { Drawing } from "./drawing";
import { keepOf } from "./filters";
import type { Moment } from "./happenings";
import { Matching } from "./matching";
import { drawOverlay, hasTrails, hit, type OverlayOptions } from "./overlay";
import type { Picture } from "./pictures";
import type { State } from "./state";

const MOST = 40;
/** Largest ratio of a picture's sides, as it is shown. */
const MOST_ASPECT = 10;
/** A pointer that moved less than this was a click. */
const CLICK_PX = 4;
/** Lines and points are hit within this. */
const NEAR_PX = 6;
/** Length of the trails of tracks, in frames. */
const TRAIL = 30;
/** Least height of letters. */
const LEAST_TEXT_PX = 8;

interface Point {
  x: number;
  y: number;
}

export class Stage {
  readonly element: HTMLElement;
  private readonly below = el("canvas", { class: "picture" });
  private readonly above = el("canvas", { class: "overlay" });
  private readonly note = el("p", { class: "stage-note", hidden: true });
  private readonly chip = el("p", { class: "stage-chip", hidden: true });
  private readonly observer: ResizeObserver;
  private readonly matching: Matching;
  private drawn: Drawing | null = null;
  /** Position of the row that is drawn. */
  private at = 0;
  /** Scale, and where the picture's corner is, in CSS pixels. */
  private view = { scale: 1, x: 0, y: 0 };
  private readonly pointers = new Map<number, Point>();
  private moved = 0;

  constructor(
    private readonly session: Session,
    private readonly state: State,
    /** Draws above all else, in pixels of the frame; one pixel of the screen is `px` of them. */
    private readonly drawMore?: (context: CanvasRenderingContext2D, position: number, px: number, size: readonly [number, number]) => void,
  ) {
    const { width, height } = session.card;
    this.matching = new Matching(session, () => { this.drawOverlay(); });
    this.element = el(
      "div",
      { class: "stage", role: "img", "aria-label": "The recorded picture with its detections" },
      this.below,
      this.above,
      this.note,
      this.chip,
    );
    this.resize(width, height);
    this.observer = new ResizeObserver(() => {
      this.fit();
    });
    this.observer.observe(this.element);
    this.listen();
  }

  close(): void {
    this.matching.close();
    this.observer.disconnect();
  }

  /** Draw a row: its picture, or why there is none, and what was detected in it. */
  show(row: Row, picture: Picture | null, drawn: Drawing | null, why: string): void {
    // There may be labels beside and below the picture.
    if (drawn) this.resize(...drawn.frame.size);
    else if (this.below.width < 2) this.resize(this.session.card.width, this.session.card.height);
    const [width, height] = drawn?.frame.picture ?? [this.below.width, this.below.height];
    const context = this.below.getContext("2d");
    if (picture && context) picture.draw(context, width, height);
    else context?.clearRect(0, 0, this.below.width, this.below.height);
    this.note.textContent = why;
    this.note.hidden = !why;
    this.drawn = drawn;
    this.at = row.i;
    delete this.element.dataset.captured;
    this.element.dataset.position = String(row.i);
    this.element.dataset.frame = String(row.frame);
    this.element.dataset.overlay = drawn ? String(row.i) : "";
    this.drawOverlay();
  }

  /** Draw what the camera sees now: a picture that has its overlay already. */
  showMoment({ picture, captured }: Moment): void {
    this.resize(picture.width, picture.height);
    this.below.getContext("2d")?.drawImage(picture, 0, 0);
    this.note.hidden = true;
    this.drawn = null;
    delete this.element.dataset.position;
    delete this.element.dataset.frame;
    this.element.dataset.captured = String(captured);
    this.drawOverlay();
  }

  private resize(width: number, height: number): void {
    const { below } = this;
    if (below.width === width && below.height === height) return;
    [below.width, below.height] = [Math.max(width, 1), Math.max(height, 1)];
    // A few lines or columns alone would not be visible: they are stretched.
    const aspect = (below.width * (this.session.card.pixel_aspect ?? 1)) / below.height;
    const shown = Math.min(Math.max(aspect, 1 / MOST_ASPECT), MOST_ASPECT);
    // Each of two side by side has its own.
    for (const element of [slot("session"), this.element]) element.style.setProperty("--aspect", String(shown));
  }

  /** A word over the picture, such as how long a gap is. */
  say(text: string): void {
    this.chip.textContent = text;
    this.chip.hidden = !text;
  }

  drawOverlay(): void {
    const context = this.above.getContext("2d");
    if (!context) return;
    if (!this.drawn) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.above.width, this.above.height);
      return;
    }
    const { scale, x, y } = this.view;
    const { ratio } = this;
    const place = {
      x: x * ratio,
      y: y * ratio,
      scaleX: (this.above.width / this.below.width) * scale,
      scaleY: (this.above.height / this.below.height) * scale,
    };
    drawOverlay(context, this.drawn, {
      ...this.options(this.drawn),
      selected: this.state.values.selected ?? undefined,
      leastText: LEAST_TEXT_PX * ratio,
      place,
    });
    if (!this.drawMore) return;
    context.setTransform(place.scaleX, 0, 0, place.scaleY, place.x, place.y);
    this.drawMore(context, this.at, ratio / place.scaleX, [this.below.width, this.below.height]);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  private options(drawn: Drawing): OverlayOptions {
    const { filter } = this.state.values;
    const matches = this.matching.keeps(filter.where, this.at);
    // Ask ahead for what plays next.
    this.matching.keeps(filter.where, Math.min(this.at + 100, Math.max(0, this.session.n - 1)));
    const before = this.state.values.trails ? this.before(drawn) : undefined;
    return { keep: keepOf(drawn, filter, matches), picture: this.below, before };
  }

  /** The frames of the run before, for trails; none where the recording has trails of its own. */
  private before(drawn: Drawing): Drawing[] | undefined {
    if (!drawn.frame.tracks || hasTrails(drawn.frame)) return undefined;
    const before: Drawing[] = [];
    for (let i = this.at - 1; i > this.at - TRAIL; i -= 1) {
      const earlier = this.session.drawnNow(i);
      if (earlier && earlier.frame.run === drawn.frame.run) before.push(earlier);
    }
    return before;
  }

  get scale(): number {
    return this.view.scale;
  }

  /** Zoom in by a factor, at a point of the element; without one, at its middle. */
  zoom(factor: number, at?: Point): void {
    const { clientWidth, clientHeight } = this.element;
    const point = at ?? { x: clientWidth / 2, y: clientHeight / 2 };
    const scale = Math.min(Math.max(this.view.scale * factor, 1), MOST);
    const ratio = scale / this.view.scale;
    this.place(scale, point.x - (point.x - this.view.x) * ratio, point.y - (point.y - this.view.y) * ratio);
  }

  whole(): void {
    this.place(1, 0, 0);
  }

  /** Show the same part as another stage. */
  follow(other: Stage): void {
    const { scale, x, y } = other.view;
    const ratio = this.element.clientWidth / Math.max(other.element.clientWidth, 1);
    if (scale !== this.view.scale || Math.abs(x * ratio - this.view.x) > 0.5 || Math.abs(y * ratio - this.view.y) > 0.5) {
      this.place(scale, x * ratio, y * ratio);
    }
  }

  /** Called when another part is shown. */
  moves: (() => void) | null = null;

  private place(scale: number, x: number, y: number): void {
    const { clientWidth, clientHeight } = this.element;
    const inside = (value: number, size: number) => Math.min(0, Math.max(value, size * (1 - scale)));
    this.view = { scale, x: inside(x, clientWidth), y: inside(y, clientHeight) };
    const { style } = this.below;
    style.transform = `translate(${this.view.x}px, ${this.view.y}px) scale(${scale})`;
    this.element.classList.toggle("zoomed", scale > 1);
    this.element.classList.toggle("near", scale * clientWidth > this.below.width * 2.5);
    this.drawOverlay();
    this.moves?.();
  }

  private get ratio(): number {
    return this.above.width / Math.max(this.element.clientWidth, 1);
  }

  private fit(): void {
    const { clientWidth, clientHeight } = this.element;
    const dense = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * dense), Math.round(clientHeight * dense)];
    if (width !== this.above.width || height !== this.above.height) {
      [this.above.width, this.above.height] = [Math.max(width, 1), Math.max(height, 1)];
    }
    this.place(this.view.scale, this.view.x, this.view.y);
  }

  private point(event: MouseEvent): Point {
    const box = this.element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  private listen(): void {
    const { element, pointers } = this;
    element.addEventListener(
      "wheel",
      (event) => {
        if (event.deltaY < 0 || this.view.scale > 1) event.preventDefault();
        const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
        this.zoom(Math.exp(-event.deltaY * lines * 0.002), this.point(event));
      },
      { passive: false },
    );
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      pointers.set(event.pointerId, this.point(event));
      this.moved = 0;
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      this.drag(event);
    });
    element.addEventListener("pointerup", (event) => {
      if (pointers.delete(event.pointerId) && !pointers.size && this.moved < CLICK_PX) {
        this.select(this.point(event));
      }
    });
    element.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
    element.addEventListener("dblclick", (event) => {
      if (this.view.scale > 1) this.whole();
      else this.zoom(3, this.point(event));
    });
  }

  private drag(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.point(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    this.moved += Math.hypot(now.x - before.x, now.y - before.y);
    if (other) {
      const spread = Math.hypot(now.x - other.x, now.y - other.y);
      const had = Math.hypot(before.x - other.x, before.y - other.y);
      if (had > 0) this.zoom(spread / had, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    } else if (this.view.scale > 1) {
      const { scale, x, y } = this.view;
      this.place(scale, x + now.x - before.x, y + now.y - before.y);
    }
  }

  /** Select the smallest detection at a point, or none. */
  private select(at: Point): void {
    const { scale, x, y } = this.view;
    const px = ((at.x - x) / scale / this.element.clientWidth) * this.below.width;
    const py = ((at.y - y) / scale / this.element.clientHeight) * this.below.height;
    if (!this.drawn) return;
    const { keep } = this.options(this.drawn);
    const near = NEAR_PX * (this.below.width / this.element.clientWidth / scale);
    const found = hit(this.drawn.frame, px, py, keep, near);
    this.state.set({ selected: found < 0 ? null : found });
  }
}
