// A diagram of a report as SVG: sharp on paper, in the colours of the page, each value with a title.

type Shape = "path" | "rect" | "line" | "circle" | "text" | "g";

export const WIDTH = 860;
const LEFT = 56;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 36;

export interface Axis {
  from: number;
  to: number;
  title: string;
}

/** Axes, and shapes between them in the units of the axes. */
export class Diagram {
  readonly element = document.createElementNS("http://www.w3.org/2000/svg", "svg");

  constructor(
    name: string,
    private readonly height: number,
    private readonly xAxis: Axis,
    private readonly yAxis: Axis,
  ) {
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
    this.element.setAttribute("role", "img");
    this.element.setAttribute("aria-label", name);
    this.element.classList.add("diagram");
    this.grid();
  }

  x(value: number): number {
    const { from, to } = this.xAxis;
    return LEFT + ((value - from) / (to - from || 1)) * (WIDTH - LEFT - RIGHT);
  }

  y(value: number): number {
    const { from, to } = this.yAxis;
    return this.foot - ((value - from) / (to - from || 1)) * (this.foot - TOP);
  }

  get foot(): number {
    return this.height - BOTTOM;
  }

  line(points: readonly [number, number][], color: string): void {
    const way = points.map(([x, y]) => `${this.x(x).toFixed(2)},${this.y(y).toFixed(2)}`);
    if (way.length) this.add("path", { d: `M${way.join("L")}`, class: "line" }, color);
  }

  /** The area between two lines over the same x values. */
  band(points: readonly [number, number, number][], color: string): void {
    const at = (x: number, y: number) => `${this.x(x).toFixed(2)},${this.y(y).toFixed(2)}`;
    const way = [
      ...points.map(([x, low]) => at(x, low)),
      ...[...points].reverse().map(([x, , high]) => at(x, high)),
    ];
    if (way.length) this.add("path", { d: `M${way.join("L")}Z`, class: "band" }, color);
  }

  point(x: number, y: number, color: string, title: string): void {
    const place = { cx: this.x(x).toFixed(2), cy: this.y(y).toFixed(2), r: 1.8 };
    this.add("circle", { ...place, class: "point" }, color, title);
  }

  bar(x: number, to: number, y: number, top: number, color: string, title: string): void {
    const [left, right] = [this.x(x), this.x(to)];
    const [high, low] = [this.y(top), this.y(y)];
    const place = {
      x: left.toFixed(2),
      y: high.toFixed(2),
      width: Math.max(right - left, 0.6).toFixed(2),
      height: Math.max(low - high, 0).toFixed(2),
    };
    this.add("rect", { ...place, class: "bar" }, color, title);
  }

  /** A tick at the foot. */
  tick(x: number, color: string, title: string): void {
    const at = this.x(x).toFixed(2);
    const place = { x1: at, x2: at, y1: this.foot - 8, y2: this.foot + 4 };
    this.add("line", { ...place, class: "tick" }, color, title);
  }

  /** A line from top to foot, with a word beside it or only a title. */
  rule(x: number, color: string, title: string, word = ""): void {
    const at = this.x(x).toFixed(2);
    this.add("line", { x1: at, x2: at, y1: TOP, y2: this.foot, class: "rule" }, color, title);
    if (word) this.add("text", { x: this.x(x) + 3, y: TOP + 9, class: "word" }, color).append(word);
  }

  private grid(): void {
    const { from, to, title } = this.yAxis;
    for (const value of ticks(from, to, Math.max(2, Math.round((this.foot - TOP) / 45)))) {
      const y = this.y(value).toFixed(2);
      this.add("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y, class: "grid" });
      this.add("text", { x: LEFT - 6, y: Number(y) + 4, class: "number" }).append(figure(value));
    }
    for (const value of ticks(this.xAxis.from, this.xAxis.to, 8)) {
      const x = this.x(value).toFixed(2);
      this.add("line", { x1: x, x2: x, y1: this.foot, y2: this.foot + 4, class: "axis" });
      this.add("text", { x, y: this.foot + 16, class: "below" }).append(figure(value));
    }
    const foot = { x1: LEFT, x2: WIDTH - RIGHT, y1: this.foot, y2: this.foot, class: "axis" };
    this.add("line", foot);
    const middle = (LEFT + WIDTH - RIGHT) / 2;
    this.add("text", { x: middle, y: this.height - 4, class: "below" }).append(this.xAxis.title);
    const up = `translate(12 ${(TOP + this.foot) / 2}) rotate(-90)`;
    this.add("text", { transform: up, class: "below" }).append(title);
  }

  private add(
    shape: Shape,
    attributes: Record<string, string | number>,
    color = "",
    title = "",
  ): SVGElement {
    const made = document.createElementNS("http://www.w3.org/2000/svg", shape);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    if (color) made.style.setProperty("--ink", `var(${color})`);
    if (title) {
      const words = document.createElementNS("http://www.w3.org/2000/svg", "title");
      words.textContent = title;
      made.append(words);
    }
    this.element.append(made);
    return made;
  }
}

/** About `count` round numbers between two. */
export function ticks(from: number, to: number, count: number): number[] {
  const span = to - from;
  if (!(span > 0) || !Number.isFinite(span)) return [from];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) ?? rough;
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) found.push(k * step);
  return found;
}

/** A number with three or four digits. */
export function figure(value: number): string {
  const rounded = Number(value.toPrecision(4));
  const isOdd = rounded !== 0 && (Math.abs(rounded) >= 1e7 || Math.abs(rounded) < 1e-4);
  return isOdd ? rounded.toExponential() : rounded.toLocaleString("en-US", { maximumFractionDigits: 6 });
}
