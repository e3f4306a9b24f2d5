// Filters of the detections drawn: labels with their colors, and the least score.
import type { Session } from "./data";
import { el } from "./dom";
import type { Drawing, Keep } from "./drawing";
import type { Filter, State } from "./state";
import { EMPTY_LABEL } from "./words";

/** More labels than this have a search field. */
const MANY = 12;

/**
 * Return which detections of a frame a filter keeps.
 *
 * `matches`: those of its condition in SQL; null: there is none; undefined: not known yet.
 */
export function keepOf(
  drawing: Drawing,
  filter: Filter,
  matches: ReadonlySet<number> | null | undefined,
): Keep {
  const { frame, labels } = drawing;
  const { hidden, score } = filter;
  return (detection) => {
    if (matches !== null && !matches?.has(detection)) return false;
    const label = labels[frame.labels[detection] ?? -1];
    if (label !== undefined && hidden.has(label)) return false;
    const own = frame.scores[detection];
    return score <= 0 || own === null || own === undefined || own >= score;
  };
}

interface LabelRow {
  row: HTMLElement;
  box: HTMLInputElement;
  many: HTMLElement;
}

/** The labels of a recording, most frequent first, each with a checkbox; and the least score. */
export class Filters {
  private readonly rows = new Map<string, LabelRow>();
  private readonly slider: HTMLInputElement;
  private readonly shown = el("output", { class: "score-value" });
  private readonly trails: HTMLInputElement;
  private readonly paths: HTMLElement;
  private readonly all: HTMLButtonElement;
  private readonly none: HTMLButtonElement;
  private readonly field: HTMLInputElement;
  private readonly list = el("div", { class: "labels", role: "group", "aria-label": "Labels that are drawn" });
  private readonly note = el("p", { class: "soft" });
  private readonly off: () => void;

  constructor(
    private readonly element: HTMLElement,
    private readonly session: Session,
    private readonly state: State,
  ) {
    this.slider = el("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.01,
      "aria-label": "Least score",
      input: () => { this.change({ score: Number(this.slider.value) }); },
    });
    this.trails = el("input", {
      type: "checkbox",
      change: () => { this.state.set({ trails: this.trails.checked }); },
    });
    this.paths = el("label", { class: "trails" }, this.trails, "Paths of tracks");
    this.all = this.button("All", () => { this.change({ hidden: new Set() }); });
    this.none = this.button("None", () => { this.change({ hidden: new Set(this.rows.keys()) }); });
    this.field = el("input", {
      type: "search",
      placeholder: "Find a label",
      "aria-label": "Find a label",
      input: () => { this.find(); },
    });
    element.append(
      el(
        "header",
        {},
        el("h2", {}, "Labels"),
        el("span", { class: "filter-buttons" }, this.all, this.none),
      ),
      el("label", { class: "score" }, el("span", {}, "Score from"), this.slider, this.shown),
      this.paths,
      this.field,
      this.list,
      this.note,
    );
    this.off = state.on(["filter", "trails"], () => { this.follow(); });
    this.update();
  }

  close(): void {
    this.off();
    this.element.replaceChildren();
  }

  /** Show what the card has by now. New labels come last: nothing moves under a pointer. */
  update(): void {
    const { labels, labels_total, has } = this.session.card;
    for (const { label, count, color } of labels) {
      const known = this.rows.get(label) ?? this.row(label, color);
      known.many.textContent = count.toLocaleString("en");
    }
    const more = labels_total - labels.length;
    this.note.textContent = labels.length
      ? `and ${more.toLocaleString("en")} less frequent ones`
      : "Nothing has a label.";
    this.note.hidden = labels.length > 0 && more <= 0;
    this.paths.hidden = !has.tracks;
    this.field.hidden = labels.length <= MANY;
    this.find();
    this.follow();
  }

  private row(label: string, color: readonly number[] | null): LabelRow {
    const box = el("input", { type: "checkbox", change: () => { this.toggle(label, box.checked); } });
    const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
    if (color) swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
    const only = this.button("only", () => { this.only(label); });
    only.setAttribute("aria-label", `only ${label}`);
    const text = el("bdi", { class: "label-name", title: label }, label || EMPTY_LABEL);
    const many = el("span", { class: "label-count" });
    const row = el("div", { class: "label-row" }, el("label", {}, box, swatch, text), only, many);
    const made = { row, box, many };
    this.rows.set(label, made);
    this.list.append(row);
    return made;
  }

  private button(text: string, run: () => void): HTMLButtonElement {
    return el("button", { type: "button", class: "quiet small", click: run }, text);
  }

  private find(): void {
    const text = this.field.hidden ? "" : this.field.value.trim().toLowerCase();
    for (const [label, { row }] of this.rows) row.hidden = !label.toLowerCase().includes(text);
  }

  private toggle(label: string, isShown: boolean): void {
    const hidden = new Set(this.state.values.filter.hidden);
    if (isShown) hidden.delete(label);
    else hidden.add(label);
    this.change({ hidden });
  }

  private only(label: string): void {
    this.change({ hidden: new Set([...this.rows.keys()].filter((other) => other !== label)) });
  }

  private change(changes: Partial<Filter>): void {
    this.state.set({ filter: { ...this.state.values.filter, ...changes } });
  }

  private follow(): void {
    const { hidden, score } = this.state.values.filter;
    for (const [label, { row, box }] of this.rows) {
      box.checked = !hidden.has(label);
      row.classList.toggle("off", hidden.has(label));
    }
    this.trails.checked = this.state.values.trails;
    this.slider.value = String(score);
    this.shown.textContent = score.toFixed(2);
    this.all.disabled = hidden.size === 0;
    this.none.disabled = [...this.rows.keys()].every((label) => hidden.has(label));
  }
}
