// Lanes of marks below the lines: what stands out, and where.

import type { Mark, MarksAnswer } from "./data";
import { el } from "./dom";
import type { State } from "./state";
import type { View } from "./view";
import { clock } from "./words";

interface Kind {
  name: string;
  /** As `/api/next` calls it; "": only known here. */
  kind: string;
  title: string;
  color: string;
  shape: "bar" | "dot" | "diamond" | "span";
}

/** Told apart by lane, by shape, and by colours that keep apart without colour vision. */
const KINDS: Kind[] = [
  { name: "differences", kind: "difference", title: "frame that differs", color: "--mark-difference", shape: "diamond" },
  { name: "drops", kind: "drop", title: "dropped frame", color: "--mark-drop", shape: "bar" },
  { name: "gaps", kind: "gap", title: "gap", color: "--mark-gap", shape: "span" },
  { name: "late", kind: "late", title: "late frame", color: "--mark-late", shape: "bar" },
  { name: "events", kind: "event", title: "event", color: "--mark-event", shape: "diamond" },
  { name: "alerts", kind: "alert", title: "alert", color: "--mark-alert", shape: "span" },
  { name: "found", kind: "", title: "row of the answer", color: "--accent", shape: "dot" },
];
const HEIGHT = 18;
/** A mark is hit within this many pixels. */
const NEAR = 6;

export interface Pointed {
  mark: Mark;
  text: string;
}

export class Lanes {
  readonly element = el("div", { class: "lanes", role: "group", "aria-label": "Marks" });
  private readonly lanes = new Map<string, { row: HTMLElement; canvas: HTMLCanvasElement; count: HTMLElement }>();
  private marks: Record<string, Mark[]> = {};

  constructor(
    private readonly view: View,
    private readonly state: State,
    jump: (kind: string, dir: 1 | -1) => void,
  ) {
    for (const kind of KINDS) {
      const count = el("b", {});
      const canvas = el("canvas", { class: "lane-marks", "aria-hidden": "true" });
      const step = (dir: 1 | -1) => {
        if (kind.kind) jump(kind.kind, dir);
        else this.stepFound(dir);
      };
      const button = el(
        "button",
        {
          type: "button",
          class: "lane-name",
          title: `Next ${kind.title}; with Shift the one before`,
          click: (event) => { step((event as MouseEvent).shiftKey ? -1 : 1); },
        },
        el("span", {}, kind.name),
        count,
      );
      const row = el("div", { class: "lane", hidden: true, "data-lane": kind.name }, button, canvas);
      this.lanes.set(kind.name, { row, canvas, count });
      this.element.append(row);
    }
  }

  set(answer: MarksAnswer): void {
    this.marks = { ...answer, found: this.marks.found ?? [] };
    this.draw();
  }

  setFound(marks: Mark[]): void {
    this.marks.found = marks;
    this.draw();
  }

  /** Count the marks in the stretch shown. An empty lane stays: zooming moves nothing. */
  private count(name: string, row: HTMLElement, element: HTMLElement): void {
    const marks = this.marks[name] ?? [];
    if (marks.length > 0 || name === "found") row.hidden = marks.length === 0;
    const count = marks.filter(({ t, to }) => this.view.has(t, to)).reduce((sum, mark) => sum + mark.count, 0);
    element.textContent = count.toLocaleString("en");
  }

  draw(): void {
    const style = getComputedStyle(this.element);
    const ratio = window.devicePixelRatio || 1;
    for (const kind of KINDS) {
      const lane = this.lanes.get(kind.name);
      if (!lane) continue;
      this.count(kind.name, lane.row, lane.count);
      if (lane.row.hidden) continue;
      const { canvas } = lane;
      const width = Math.max(1, Math.round(this.view.width * ratio));
      if (canvas.width !== width) canvas.width = width;
      if (canvas.height !== HEIGHT * ratio) canvas.height = HEIGHT * ratio;
      const context = canvas.getContext("2d");
      if (!context) continue;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, this.view.width, HEIGHT);
      context.fillStyle = style.getPropertyValue(kind.color).trim();
      for (const mark of this.marks[kind.name] ?? []) this.drawMark(context, kind, mark);
    }
  }

  private drawMark(context: CanvasRenderingContext2D, kind: Kind, mark: Mark): void {
    const x = this.view.x(mark.t);
    const end = mark.to === undefined ? x : this.view.x(mark.to);
    if (Math.max(x, end) < -4 || x > this.view.width + 4) return;
    const middle = HEIGHT / 2;
    if (kind.shape === "span") {
      context.globalAlpha = 0.45;
      context.fillRect(x, middle - 4, Math.max(end - x, 2), 8);
      context.globalAlpha = 1;
      context.fillRect(x, middle - 6, 2, 12);
    } else if (kind.shape === "bar") {
      context.fillRect(x - 0.75, middle - 5, 1.5, 10);
    } else if (kind.shape === "dot") {
      context.beginPath();
      context.arc(x, middle, 2.5, 0, 7);
      context.fill();
    } else {
      context.beginPath();
      context.moveTo(x, middle - 5);
      context.lineTo(x + 5, middle);
      context.lineTo(x, middle + 5);
      context.lineTo(x - 5, middle);
      context.fill();
    }
  }

  /** The mark at a place on the screen. */
  pointed(clientY: number, x: number): Pointed | null {
    for (const { name, title } of KINDS) {
      const lane = this.lanes.get(name);
      if (!lane || lane.row.hidden) continue;
      const box = lane.row.getBoundingClientRect();
      if (clientY < box.top || clientY >= box.bottom) continue;
      let best: Mark | null = null;
      let least = NEAR;
      for (const mark of this.marks[name] ?? []) {
        const [from, to] = [this.view.x(mark.t), this.view.x(mark.to ?? mark.t)];
        const away = x < from ? from - x : x > to ? x - to : 0;
        if (away < least) [best, least] = [mark, away];
      }
      return best && { mark: best, text: words(best, title) };
    }
    return null;
  }

  /** Whether a place on the screen is in the lanes. */
  contains(clientY: number): boolean {
    const box = this.element.getBoundingClientRect();
    return clientY >= box.top && clientY < box.bottom;
  }

  private stepFound(dir: 1 | -1): void {
    const { position } = this.state.values;
    const there = (this.marks.found ?? []).map(({ i }) => i).filter((i) => (i - position) * dir > 0);
    if (there.length) this.state.go(dir > 0 ? Math.min(...there) : Math.max(...there));
  }
}

function words(mark: Mark, title: string): string {
  const what = mark.text ?? title;
  const more = mark.count > 1 && !mark.place ? ` and ${(mark.count - 1).toLocaleString("en")} more here` : "";
  const lost = mark.place !== undefined ? `${mark.count.toLocaleString("en")} lost here: ` : "";
  return `${clock(mark.t)}  ${lost}${what}${more}`;
}
