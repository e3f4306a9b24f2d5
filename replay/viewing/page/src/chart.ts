// One row of the time line: lines that share a scale, each with the band from its smallest to its largest value.

import uPlot from "uplot";
import type { SeriesAnswer } from "./data";
import { el } from "./dom";
import type { Line } from "./lines";
import type { View } from "./view";

type Values = (number | null)[];

/** Points further apart than this many usual distances, and this many seconds, are not joined. */
const [FAR, FAR_S] = [3, 0.1];
/** A gap shorter than this many usual steps is one of many between bursts of rows. */
const BURST = 5;
/** As in playing, shorter ones do not count; the lane of gaps has them, too. */
const LEAST_GAP_S = 1;

export class Chart {
  readonly element: HTMLElement;
  private readonly values = new Map<string, HTMLElement>();
  private readonly plotted: HTMLElement;
  private plot: uPlot | null = null;
  private answer: SeriesAnswer | null = null;
  /** In seconds: the distance beyond which points are not joined. */
  private farthest = Infinity;
  /** Moments at which lines are interrupted. */
  private breaks: number[] = [];

  constructor(
    readonly group: string,
    readonly lines: Line[],
    private readonly view: View,
    private readonly gutter: () => number,
    private readonly height: number,
    private readonly usualStep: number,
  ) {
    const names = lines.map((line) => this.legend(line));
    this.plotted = el("div", { class: "row-plot" });
    this.element = el("div", { class: "row", role: "group" }, el("div", { class: "row-legend" }, ...names), this.plotted);
  }

  private legend(line: Line): HTMLElement {
    const value = el("b", {});
    this.values.set(line.name, value);
    const sample = el("span", { class: "line-sample" });
    sample.style.background = `var(${line.color})`;
    return el("span", { class: "legend-item", title: line.label }, sample, el("bdi", { class: "legend-name" }, line.label), value, line.unit ? el("i", {}, line.unit) : null);
  }

  close(): void {
    this.plot?.destroy();
    this.plot = null;
  }

  /** The answer's mean at a moment, with its bounds. */
  at(name: string, t: number): [number, number, number] | null {
    const { answer } = this;
    const of = answer?.series[name];
    if (!answer || !of || answer.step <= 0) return null;
    const k = Math.min(Math.floor((t - answer.from) / answer.step), of.mean.length - 1);
    let near = k;
    // For what is logged now and then: the value before.
    while (near >= 0 && (of.mean[near] ?? null) === null && (k - near) * answer.step <= this.farthest) near--;
    if ((of.mean[near] ?? null) === null && (of.mean[k + 1] ?? null) !== null) near = k + 1;
    const [mean, least, most] = [of.mean[near], of.min[near], of.max[near]];
    return mean === null || mean === undefined ? null : [mean, least ?? mean, most ?? mean];
  }

  /** Write values beside the names: those of a frame where it has them, or those of a moment. */
  say(t: number | null, exact: Record<string, number | null>): void {
    for (const [name, element] of this.values) {
      const own = exact[name];
      const found = t === null ? null : this.at(name, t);
      let text = "–";
      if (own !== null && own !== undefined) text = short(own);
      else if (found) text = found[1] === found[2] ? short(found[0]) : `${short(found[0])} (${short(found[1])}–${short(found[2])})`;
      if (element.textContent !== text) element.textContent = text;
    }
  }

  setData(answer: SeriesAnswer): void {
    this.answer = answer;
    const [xs, ...columns] = this.aligned(answer);
    const data: uPlot.AlignedData = [xs, ...columns];
    if (this.plot) this.plot.setData(data, true);
    else this.plot = new uPlot(this.options(), data, this.plotted);
    this.element.classList.toggle("empty", xs.length === 0);
  }

  /** Show the window of the view with the data that are there. */
  rescale(): void {
    this.plot?.setScale("x", { min: this.view.shown.from, max: this.view.shown.to });
  }

  resize(): void {
    this.plot?.setSize({ width: this.gutter() + this.view.width, height: this.height });
  }

  /** Make the plot anew: the colours of the page have changed. */
  restyle(): void {
    this.plot?.destroy();
    this.plot = null;
    if (this.answer) this.setData(this.answer);
  }

  /** Pixels that have a value of any line, and a gap wherever the next one is far away. */
  private aligned(answer: SeriesAnswer): [number[], ...Values[]] {
    const of = this.lines.map(({ name }) => answer.series[name] ?? { min: [], max: [], mean: [] });
    const there: number[] = [];
    const length = of[0]?.mean.length ?? 0;
    for (let k = 0; k < length; k++) {
      if (of.some(({ mean }) => (mean[k] ?? null) !== null)) there.push(k);
    }
    const steps = there.slice(1).map((k, j) => k - (there[j] ?? 0)).sort((a, b) => a - b);
    const usual = steps[Math.floor(steps.length / 2)] ?? 1;
    this.farthest = Math.max((FAR * usual + 1) * answer.step, FAR * this.usualStep, FAR_S);
    const xs: number[] = [];
    const columns: Values[] = of.flatMap(() => [[], [], []]);
    let last = NaN;
    this.breaks = [];
    for (const k of there) {
      if (this.isApart(answer, last, k)) {
        const middle = answer.from + ((k + last + 1) / 2) * answer.step;
        this.breaks.push(middle);
        this.put(xs, columns, middle, null, k);
      }
      this.put(xs, columns, answer.from + (k + 0.5) * answer.step, of, k);
      last = k;
    }
    return [xs, ...columns];
  }

  /** Whether nothing was recorded between two pixels: their values are not joined. */
  private isApart({ step, from, gaps }: SeriesAnswer, last: number, k: number): boolean {
    if (!gaps) return (k - last) * step > this.farthest;
    const [begin, end] = [from + (last + 0.5) * step, from + (k + 0.5) * step];
    if (end - begin < Math.max(BURST * this.usualStep, LEAST_GAP_S)) return false;
    return gaps.some(([began, ended]) => Math.min(end, ended) - Math.max(begin, began) > (end - begin) / 2);
  }

  private put(xs: number[], columns: Values[], x: number, of: { min: Values; max: Values; mean: Values }[] | null, k: number): void {
    xs.push(x);
    columns.forEach((column, c) => {
      const line = of?.[Math.floor(c / 3)];
      column.push((c % 3 === 0 ? line?.max : c % 3 === 1 ? line?.min : line?.mean)?.[k] ?? null);
    });
  }

  private options(): uPlot.Options {
    const style = getComputedStyle(this.element);
    const css = (name: string) => style.getPropertyValue(name).trim();
    const grid = { stroke: css("--line"), width: 1 };
    const series: uPlot.Series[] = [{}];
    const bands: uPlot.Band[] = [];
    this.lines.forEach((line, k) => {
      const color = css(line.color);
      const edge: uPlot.Series = { stroke: "transparent", width: 0, points: { show: false }, gaps: this.gaps };
      series.push(edge, { ...edge }, { stroke: color, width: 1.25, gaps: this.gaps, ...(line.isDashed ? { dash: [6, 3] } : {}), points: { size: 4, stroke: color, fill: color } });
      bands.push({ series: [3 * k + 1, 3 * k + 2], fill: `color-mix(in srgb, ${color} 24%, transparent)` });
    });
    return {
      width: this.gutter() + this.view.width,
      height: this.height,
      padding: [20, 0, 4, 0],
      legend: { show: false },
      cursor: { show: false },
      series,
      bands,
      scales: {
        x: { time: false, range: () => [this.view.shown.from, this.view.shown.to] },
        y: { range: (_, min, max) => bounds(min, max, !this.group.startsWith("signal:")) },
      },
      axes: [
        { size: 0, grid, ticks: { show: false }, splits: () => this.view.ticks(90).map(({ t }) => t), values: (_, ticks) => ticks.map(() => "") },
        {
          size: () => this.gutter(),
          stroke: css("--soft"),
          font: `10px ${css("--sans")}`,
          grid,
          ticks: { show: false },
          gap: 6,
          space: 22,
          values: (_, ticks) => ticks.map(short),
        },
      ],
    };
  }

  private readonly gaps: uPlot.Series.GapsRefiner = (plot, _series, _from, _to, nulls) => {
    // Elsewhere another line has a value, or none of them.
    const breaks = this.breaks.map((x) => plot.valToPos(x, "x", true));
    return nulls.filter(([from, to]) => breaks.some((at) => at >= from && at <= to));
  };
}

/** A scale from 0, except for signals, whose zero says little. */
function bounds(min: number | null, max: number | null, fromZero: boolean): [number, number] {
  if (min === null || max === null || !Number.isFinite(min) || !Number.isFinite(max)) return [0, 1];
  const least = fromZero ? Math.min(0, min) : min;
  const room = (max - least) * 0.08 || Math.abs(max) * 0.1 || 1;
  return [fromZero ? least : least - room, max + room];
}

export function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toPrecision(3);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(digits);
}
