// The stretch of time shown, and where its moments are on the screen.

import type { Range } from "./state";

const STEPS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
  1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000,
];
/** The shortest stretch that can be shown, in seconds. */
const SHORTEST = 0.002;

export interface Tick {
  t: number;
  text: string;
}

/** The stretch shown, and its width in pixels, from the left edge of the lines. */
export class View {
  full: Range = { from: 0, to: 1 };
  window: Range | null = null;
  width = 600;

  get shown(): Range {
    return this.window ?? this.full;
  }

  get span(): number {
    return this.shown.to - this.shown.from;
  }

  x(t: number): number {
    return ((t - this.shown.from) / this.span) * this.width;
  }

  t(x: number): number {
    return this.shown.from + (x / this.width) * this.span;
  }

  /** Whether a moment, or some of what lasts until another one, is shown. */
  has(t: number, until = t): boolean {
    return until >= this.shown.from && t <= this.shown.to;
  }

  /** The stretch scaled by a factor, with a moment staying where it is; null: all. */
  zoomed(factor: number, at: number): Range | null {
    const { from, to } = this.shown;
    const span = Math.max((to - from) * factor, SHORTEST);
    return this.within(at - ((at - from) / (to - from)) * span, span);
  }

  panned(seconds: number): Range | null {
    return this.window ? this.within(this.window.from + seconds, this.span) : null;
  }

  /** A stretch of some length, moved to stay within the recording; null: all. */
  within(from: number, span: number): Range | null {
    const { full } = this;
    if (span >= (full.to - full.from) * 0.999) return null;
    const begin = Math.min(Math.max(from, full.from), full.to - span);
    return { from: begin, to: begin + span };
  }

  /** Round moments, as many as there is room for. */
  ticks(room: number): Tick[] {
    const { from, to } = this.shown;
    const wanted = (to - from) / Math.max(1, this.width / room);
    const step = STEPS.find((one) => one >= wanted) ?? wanted;
    const found: Tick[] = [];
    for (let k = Math.ceil(from / step); k * step <= to && found.length < 200; k++) {
      found.push({ t: k * step, text: tickText(k * step, step) });
    }
    return found;
  }
}

function tickText(t: number, step: number): string {
  const digits = step >= 1 ? 0 : Math.min(3, Math.ceil(-Math.log10(step) - 1e-9));
  const sign = t < 0 ? "-" : "";
  const rounded = Number(Math.abs(t).toFixed(digits));
  const [h, m] = [Math.floor(rounded / 3600), Math.floor(rounded / 60) % 60];
  const s = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return h ? `${sign}${h}:${String(m).padStart(2, "0")}:${s}` : `${sign}${m}:${s}`;
}
