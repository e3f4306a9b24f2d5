// Detections that differ between two recordings: their marks, and the legend of these.

import { el } from "./dom";
import type { Difference, FramePair, Group, Verdict } from "./paired";

interface Kind {
  group: Group;
  name: string;
  /** A custom property of the style sheet. */
  color: string;
  /** In pixels of the screen; none: two solid lines. */
  dash: number[];
}

/** Told apart by stroke as well as by colour. */
export const GROUPS: Kind[] = [
  { group: "only_a", name: "only in A", color: "--diff-only-a", dash: [9, 5] },
  { group: "only_b", name: "only in B", color: "--diff-only-b", dash: [9, 5] },
  { group: "label", name: "other label", color: "--diff-label", dash: [] },
  { group: "shift", name: "box shifted", color: "--diff-shift", dash: [2, 4] },
];
/** The mark's distance from the box, its width and its rim's, in pixels of the screen. */
const [OUTSIDE, WIDTH, RIM] = [4, 2.5, 5.5];
const MOST_LISTED = 60;

/** Mark the detections of one side that differ, around their boxes. */
export function drawDifferences(
  context: CanvasRenderingContext2D,
  different: readonly Difference[],
  side: 0 | 1,
  px: number,
  [width, height]: readonly [number, number],
): void {
  const style = getComputedStyle(document.documentElement);
  context.save();
  context.lineCap = "butt";
  for (const { group, color, dash } of GROUPS) {
    const stroke = style.getPropertyValue(color).trim();
    const boxes = different.filter((each) => each.group === group).map(({ boxes }) => boxes[side]);
    for (const box of boxes) {
      if (!box) continue;
      const [left, top, right, bottom] = box.map((value) => value ?? NaN) as [number, number, number, number];
      if (![left, top, right, bottom].every(Number.isFinite)) continue;
      const around = (by: number) => {
        context.beginPath();
        // Not beyond the edges: boxes often end there.
        const inset = WIDTH * px;
        const [x1, y1] = [Math.max(left - by, inset), Math.max(top - by, inset)];
        const [x2, y2] = [Math.min(right + by, width - inset), Math.min(bottom + by, height - inset)];
        context.rect(x1, y1, x2 - x1, y2 - y1);
        context.stroke();
      };
      context.setLineDash([]);
      context.strokeStyle = "rgb(0 0 0 / 65%)";
      context.lineWidth = RIM * px;
      around(OUTSIDE * px);
      context.strokeStyle = stroke;
      context.lineWidth = WIDTH * px;
      context.setLineDash(dash.map((length) => length * px));
      around(OUTSIDE * px);
      if (!dash.length) around((OUTSIDE + RIM) * px);
    }
  }
  context.restore();
}

/** The number of differences of each kind, and a list of those of the frame shown. */
export class DifferencePanel {
  readonly element: HTMLElement;
  private readonly counts = new Map<string, { here: HTMLElement; all: HTMLElement }>();
  private readonly note = el("p", { class: "diff-note" });
  private readonly list = el("tbody", {});
  private readonly table: HTMLElement;

  constructor(private readonly select: (difference: Difference) => void) {
    const entries = [{ group: "same", name: "same", color: "" }, ...GROUPS].map(({ group, name, color }) => {
      const [here, all] = [el("td", { class: "number" }), el("td", { class: "number" })];
      this.counts.set(group, { here, all });
      const sample = el("span", { class: `diff-sample diff-${group}`, "aria-hidden": "true" });
      if (color) sample.style.borderColor = `var(${color})`;
      return el("tr", { "data-group": group }, el("th", { scope: "row" }, sample, name), here, all);
    });
    const head = el("tr", {}, el("th", {}), el("th", { class: "number", scope: "col" }, "this frame"), el("th", { class: "number", scope: "col" }, "all frames"));
    const names = ["difference", "A", "B", "IoU"].map((name, c) => el("th", { scope: "col", class: c === 3 ? "number" : "" }, name));
    this.table = el("table", { class: "diff-list" }, el("thead", {}, el("tr", {}, ...names)), this.list);
    this.element = el(
      "div",
      { class: "diff" },
      el("table", { class: "diff-legend" }, el("thead", {}, head), el("tbody", {}, ...entries)),
      el("div", { class: "diff-frame" }, this.note, el("div", { class: "diff-scroll" }, this.table)),
    );
  }

  /** Show what differs in a frame. */
  show({ found }: FramePair, reason: string): void {
    const different = found?.different ?? [];
    const here = new Map<string, number>(Object.entries({ ...found?.groups, same: found?.kinds.same ?? 0 }));
    for (const [group, { here: cell }] of this.counts) {
      cell.textContent = found ? (here.get(group) ?? 0).toLocaleString("en") : "–";
    }
    this.note.textContent = this.words(found, reason);
    this.table.hidden = different.length === 0;
    this.list.replaceChildren(...different.slice(0, MOST_LISTED).map((each) => this.row(each)));
  }

  private words(found: FramePair["found"], reason: string): string {
    if (reason) return reason;
    if (!found) return "B does not have this frame.";
    const count = Object.values(found.groups).reduce((sum, each) => sum + each, 0);
    if (count > MOST_LISTED) return `The first ${MOST_LISTED} of ${count.toLocaleString("en")} differences.`;
    if (found.not_compared) return `${found.not_compared.toLocaleString("en")} detections are not compared: they have neither box nor label, or are too many.`;
    return found.different.length ? "" : "Both found the same in this frame.";
  }

  /** Show how many there are in all so far. */
  total({ groups, state }: Verdict): void {
    for (const [group, { all }] of this.counts) {
      const count = groups[group as Group | "same"];
      all.textContent = `${count.toLocaleString("en")}${state === "comparing" ? " …" : ""}`;
    }
  }

  private row(difference: Difference): HTMLElement {
    const { kind, group, labels, iou } = difference;
    const name = kind.replace("BASE", "A").replace("NEW", "B");
    const choose = el("button", { type: "button", class: "quiet", click: () => { this.select(difference); } }, name);
    return el(
      "tr",
      { "data-group": group },
      el("th", { scope: "row" }, choose),
      ...labels.map((label, side) => {
        const isThere = (side ? difference.b : difference.a) !== null;
        return el("td", {}, isThere ? (label ?? "no label") : "–");
      }),
      el("td", { class: "number" }, iou === null ? "–" : iou.toFixed(2)),
    );
  }
}
