// The whole recording, small, below the stretch shown: where that is, and a way to move it.

import type { SeriesAnswer } from "./data";
import { el } from "./dom";
import type { Range } from "./state";
import type { View } from "./view";

const HEIGHT = 30;

export class Minimap {
  private readonly canvas = el("canvas", { class: "minimap-line", "aria-hidden": "true" });
  private readonly frame = el("div", { class: "minimap-window" });
  private readonly area = el("div", { class: "minimap-area" }, this.canvas, this.frame);
  readonly element = el("div", { class: "minimap", hidden: true, "aria-hidden": "true" }, this.area);
  private answer: SeriesAnswer | null = null;
  private name = "";
  /** The pointer's distance from the window's middle, while it is moved. */
  private grip: number | null = null;

  constructor(
    private readonly view: View,
    private readonly move: (window: Range | null) => void,
  ) {
    this.area.addEventListener("pointerdown", (event) => {
      this.area.setPointerCapture(event.pointerId);
      const [t, { from, to }] = [this.t(event), view.shown];
      this.grip = t >= from && t <= to ? t - (from + to) / 2 : 0;
      this.to(t);
    });
    this.area.addEventListener("pointermove", (event) => {
      if (this.grip !== null) this.to(this.t(event));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.area.addEventListener(end, () => { this.grip = null; });
    }
  }

  private t(event: PointerEvent): number {
    const { full, width } = this.view;
    const x = event.clientX - this.area.getBoundingClientRect().left;
    return full.from + (x / width) * (full.to - full.from);
  }

  private to(t: number): void {
    const { span } = this.view;
    this.move(this.view.within(t - (this.grip ?? 0) - span / 2, span));
  }

  get isKnown(): boolean {
    return this.answer !== null;
  }

  set(answer: SeriesAnswer, name: string): void {
    this.answer = answer;
    this.name = name;
    this.draw();
  }

  follow(): void {
    const { full, shown, width, window } = this.view;
    this.element.hidden = !window;
    const scale = width / (full.to - full.from);
    this.frame.style.left = `${(shown.from - full.from) * scale}px`;
    this.frame.style.width = `${Math.max(3, (shown.to - shown.from) * scale)}px`;
  }

  draw(): void {
    const ratio = window.devicePixelRatio || 1;
    const { width } = this.view;
    [this.canvas.width, this.canvas.height] = [Math.max(1, width * ratio), HEIGHT * ratio];
    const of = this.answer?.series[this.name];
    const context = this.canvas.getContext("2d");
    if (!of || !context) return;
    // The band would hide the line: single values are far above the others.
    const most = Math.max(...of.mean.map((value) => value ?? 0)) || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = getComputedStyle(this.element).getPropertyValue("--faint").trim();
    const step = width / of.mean.length;
    of.mean.forEach((value, k) => {
      if (value === null) return;
      const height = Math.max(1, (value / most) * (HEIGHT - 4));
      context.fillRect(k * step, HEIGHT - height, Math.max(step, 1), height);
    });
  }
}
