// The lines that a recording has, and which of them are shown.

import type { Session } from "./data";
import { el } from "./dom";
import { EMPTY_LABEL, plural, stageName } from "./words";

export interface Line {
  /** As the server calls it. */
  name: string;
  label: string;
  /** Lines of one group share a row and a scale. */
  group: string;
  unit: string;
  /** A custom property of the style sheet. */
  color: string;
  isDashed?: boolean;
}

const STAGES = [
  "latency_ms",
  "inference_ms",
  "preprocess_ms",
  "postprocess_ms",
  "waiting_ms",
  "read_ms",
  "recorder_ms",
  "published_ms",
];
const COLORS = 6;
/** Labels and signals that can be chosen: a list of a million would be of no use. */
const MOST = 60;

/** All lines of a recording, in the order of the rows. */
export function linesOf(session: Session): Line[] {
  const { stages, labels, signals } = session.card;
  const there = [...STAGES.filter((name) => stages.includes(name) || isWaiting(name, stages)), ...stages];
  const lines: Line[] = [...new Set(there)].map((name, k) => ({
    name,
    label: stageName(name),
    group: "ms",
    unit: "ms",
    color: color(k),
  }));
  session.otherStages.forEach((name, k) => {
    lines.push({ name: `b:${name}`, label: `${stageName(name)} of B`, group: "ms", unit: "ms", color: color(k + 1), isDashed: true });
  });
  lines.push({ name: "fps", label: "rate", group: "fps", unit: "fps", color: color(0) });
  lines.push({ name: "detections", label: "detections", group: "detections", unit: "", color: color(0) });
  labels.slice(0, MOST).forEach(({ label }, k) => {
    lines.push({ name: `label:${label}`, label: label || EMPTY_LABEL, group: "detections", unit: "", color: color(k + 1) });
  });
  signals.slice(0, MOST).forEach(({ name }, k) => {
    lines.push({ name: `signal:${name}`, label: name, group: `signal:${name}`, unit: "", color: color(k) });
  });
  const known = session.card.lines;
  return known ? lines.filter(({ name }) => known.includes(name)) : lines;
}

/** What an export has no lines for, in words; "": nothing. */
function leftOut({ card: { lines, labels_total, signals } }: Session): string {
  const missing = (kind: string, all: number) => all - (lines?.filter((name) => name.startsWith(kind)).length ?? all);
  const parts = [plural(missing("label:", labels_total), "label"), plural(missing("signal:", signals.length), "signal")];
  const more = parts.filter((part) => !part.startsWith("0 "));
  return more.length ? `of ${more.join(" and ")} more: dgrec view` : "";
}

function isWaiting(name: string, stages: string[]): boolean {
  return name === "waiting_ms" && stages.includes("latency_ms") && stages.includes("inference_ms");
}

function color(k: number): string {
  return `--series-${(k % COLORS) + 1}`;
}

/** The lines shown at first. */
export function usualLines(lines: Line[], session: Session): Set<string> {
  const { labels, signals } = session.card;
  const isPair = session.otherStages.length > 0;
  const usual = new Set(isPair ? ["latency_ms", "b:latency_ms"] : ["latency_ms", "inference_ms", "fps"]);
  if (isPair) return new Set(lines.filter(({ name }) => usual.has(name)).map(({ name }) => name));
  if (labels.length > 1) for (const { label } of labels.slice(0, 3)) usual.add(`label:${label}`);
  else usual.add("detections");
  if (signals.length <= 2) for (const { name } of signals) usual.add(`signal:${name}`);
  return new Set(lines.filter(({ name }) => usual.has(name)).map(({ name }) => name));
}

const TITLES = ["stages", "fps", "detections", "signals"];

function titleOf(group: string): string {
  return group.startsWith("signal:") ? "signals" : group === "ms" ? "stages" : group;
}

/** The button and the list of lines to choose from. */
export class LineMenu {
  readonly element: HTMLDetailsElement;
  /** Whether the user has chosen lines. */
  isUsed = false;
  private readonly sets = new Map(
    TITLES.map((title) => [title, el("fieldset", { hidden: true }, el("legend", {}, title))]),
  );
  private readonly boxes = new Map<string, HTMLInputElement>();
  private readonly more = el("p", { class: "line-more" });
  private readonly closeOutside = (event: PointerEvent) => {
    if (!(event.target instanceof Node) || !this.element.contains(event.target)) this.element.open = false;
  };

  constructor(
    private readonly chosen: Set<string>,
    private readonly changed: () => void,
    private readonly session: Session,
  ) {
    const list = el("div", { class: "line-menu" }, ...this.sets.values(), this.more);
    this.element = el("details", { class: "menu" }, el("summary", {}, "Lines"), list);
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.element.open = false;
    });
    document.addEventListener("pointerdown", this.closeOutside);
  }

  /** Offer these lines, too; check those that are chosen. */
  show(lines: readonly Line[]): void {
    for (const line of lines) {
      const set = this.sets.get(titleOf(line.group));
      if (!this.boxes.has(line.name)) set?.append(this.box(line));
      if (set) set.hidden = false;
    }
    for (const [name, box] of this.boxes) box.checked = this.chosen.has(name);
    this.more.textContent = leftOut(this.session);
    this.more.hidden = !this.more.textContent;
  }

  close(): void {
    document.removeEventListener("pointerdown", this.closeOutside);
  }

  private box(line: Line): HTMLElement {
    const box = el("input", { type: "checkbox" });
    box.addEventListener("change", () => {
      this.isUsed = true;
      if (box.checked) this.chosen.add(line.name);
      else this.chosen.delete(line.name);
      this.changed();
    });
    this.boxes.set(line.name, box);
    const sample = el("span", { class: "line-sample" });
    sample.style.background = `var(${line.color})`;
    return el("label", { title: line.label }, box, sample, el("bdi", { class: "line-name" }, line.label));
  }
}
