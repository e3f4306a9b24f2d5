// The meaning of pointer, wheel and fingers on the time line.

import type { View } from "./view";

export interface Meanings {
  /** Show the frame at a moment. */
  go(t: number, clientY: number): void;
  /** Show the frames while a finger or the mouse moves along the ruler. */
  scrub(t: number): void;
  hover(x: number | null, clientY: number): void;
  zoom(factor: number, at: number): void;
  pan(seconds: number): void;
  /** Show only a stretch. */
  window(from: number, to: number): void;
  /** Mark a stretch. */
  mark(from: number, to: number): void;
  /** A stretch that is being drawn; null: none any more. */
  drawing(range: [number, number] | null, marks: boolean): void;
  all(): void;
}

type Mode = "none" | "press" | "zoom" | "mark" | "pan" | "scrub" | "pinch";
const CLICK = 4;

export class Gestures {
  private mode: Mode = "none";
  private beginX = 0;
  private lastX = 0;
  private readonly fingers = new Map<number, number>();
  private readonly abort = new AbortController();

  constructor(
    private readonly area: HTMLElement,
    private readonly ruler: HTMLElement,
    private readonly view: View,
    private readonly left: () => number,
    private readonly means: Meanings,
  ) {
    const options = { signal: this.abort.signal };
    area.addEventListener("pointerdown", (event) => { this.down(event); }, options);
    area.addEventListener("pointermove", (event) => { this.move(event); }, options);
    area.addEventListener("pointerup", (event) => { this.up(event); }, options);
    area.addEventListener("pointercancel", (event) => { this.cancel(event); }, options);
    area.addEventListener("pointerleave", () => { means.hover(null, 0); }, options);
    area.addEventListener("dblclick", (event) => {
      if (this.isWithin(event)) means.all();
    }, options);
    area.addEventListener("wheel", (event) => { this.wheel(event); }, { ...options, passive: false });
  }

  close(): void {
    this.abort.abort();
  }

  private x(event: MouseEvent): number {
    return event.clientX - this.left();
  }

  private isWithin(event: MouseEvent): boolean {
    const x = this.x(event);
    const isOfElse = event.target instanceof Element && event.target.closest("button, a, summary, input, select");
    return x >= -2 && x <= this.view.width + 2 && !isOfElse;
  }

  private down(event: PointerEvent): void {
    if (!this.isWithin(event) || (event.button !== 0 && event.button !== 1)) return;
    this.area.setPointerCapture(event.pointerId);
    const x = this.x(event);
    this.fingers.set(event.pointerId, x);
    if (this.fingers.size >= 2) {
      this.mode = "pinch";
      this.means.drawing(null, false);
      return;
    }
    [this.beginX, this.lastX] = [x, x];
    if (event.target instanceof Node && this.ruler.contains(event.target)) {
      this.mode = "scrub";
      this.means.scrub(this.view.t(x));
    } else if (event.button === 1 || event.altKey) {
      this.mode = "pan";
    } else {
      this.mode = "press";
    }
    if (event.button === 1) event.preventDefault();
  }

  private move(event: PointerEvent): void {
    const x = this.x(event);
    const before = this.fingers.get(event.pointerId);
    if (before !== undefined) this.fingers.set(event.pointerId, x);
    const inside = x >= 0 && x <= this.view.width;
    this.means.hover(inside ? x : null, event.clientY);
    if (before === undefined) return;
    if (this.mode === "pinch") {
      this.pinch(event.pointerId, before, x);
      return;
    }
    if (this.mode === "press" && Math.abs(x - this.beginX) >= CLICK) {
      // A finger moves what is shown, a mouse draws a stretch.
      this.mode = event.shiftKey ? "mark" : event.pointerType === "touch" ? "pan" : "zoom";
    }
    if (this.mode === "scrub") this.means.scrub(this.view.t(Math.min(Math.max(x, 0), this.view.width)));
    else if (this.mode === "pan") this.means.pan(((this.lastX - x) / this.view.width) * this.view.span);
    else if (this.mode === "zoom" || this.mode === "mark") {
      this.means.drawing(this.stretch(x), this.mode === "mark");
    }
    this.lastX = x;
  }

  private stretch(x: number): [number, number] {
    const ends = [this.beginX, x].map((each) => this.view.t(Math.min(Math.max(each, 0), this.view.width)));
    return [Math.min(...ends), Math.max(...ends)];
  }

  private pinch(moved: number, before: number, now: number): void {
    const other = [...this.fingers].find(([id]) => id !== moved)?.[1];
    if (other === undefined) return;
    const [was, is] = [Math.abs(before - other), Math.abs(now - other)];
    if (was > 8 && is > 8) this.means.zoom(was / is, this.view.t((now + other) / 2));
  }

  private up(event: PointerEvent): void {
    const x = this.x(event);
    const { mode } = this;
    if (!this.fingers.delete(event.pointerId)) return;
    if (mode === "pinch" && this.fingers.size) return;
    this.mode = "none";
    this.means.drawing(null, false);
    if (mode === "press") this.means.go(this.view.t(x), event.clientY);
    else if (mode === "zoom") this.means.window(...this.stretch(x));
    else if (mode === "mark") this.means.mark(...this.stretch(x));
  }

  private cancel(event: PointerEvent): void {
    this.fingers.delete(event.pointerId);
    this.mode = "none";
    this.means.drawing(null, false);
  }

  private wheel(event: WheelEvent): void {
    if (!this.isWithin(event)) return;
    const size = event.deltaMode === 1 ? 16 : 1;
    const [across, along] = [event.deltaX * size, event.deltaY * size];
    if (event.shiftKey || Math.abs(across) > Math.abs(along)) {
      if (!this.view.window) return;
      event.preventDefault();
      this.means.pan(((across || along) / this.view.width) * this.view.span);
    } else if (along) {
      // Everything is shown already: the page scrolls.
      if (along > 0 && !this.view.window) return;
      event.preventDefault();
      this.means.zoom(Math.exp(Math.min(Math.max(along, -200), 200) / 300), this.view.t(this.x(event)));
    }
  }
}
