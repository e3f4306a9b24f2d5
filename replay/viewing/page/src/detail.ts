// The detections of the frame shown, and everything that was recorded of the selected one.
import { type Cell, isAbort, message, type Session } from "./data";
import { el, reveal, slot } from "./dom";
import type { Drawing } from "./drawing";
import type { State } from "./state";
import { tree } from "./tree";
import { EMPTY_LABEL, plural } from "./words";

/** Further detections of a frame are not listed, but can be clicked. */
const MOST = 200;
/** While frames change faster than this, nothing is listed. */
const WAIT_MS = 120;

export class Detail {
  private readonly title = el("h2", {}, "Detections");
  private readonly count = el("span", { class: "soft" });
  private readonly list = el("div", { class: "found", role: "listbox", "aria-label": "Detections" });
  private readonly one = el("div", { class: "one", "aria-live": "polite" });
  private readonly notes = el("p", { class: "soft notes", hidden: true });
  private readonly off: () => void;
  private loading = new AbortController();
  private waiting = 0;
  private listed = -1;

  constructor(
    private readonly element: HTMLElement,
    private readonly session: Session,
    private readonly state: State,
  ) {
    element.append(el("header", {}, this.title, this.count), this.notes, this.list, this.one);
    this.list.addEventListener("keydown", (event) => { this.pressed(event); });
    this.off = state.on(["position", "selected", "playing"], (_, changed) => {
      if (changed.has("position") || changed.has("playing")) this.soon();
      else this.select();
    });
    this.soon();
  }

  close(): void {
    this.off();
    this.loading.abort();
    window.clearTimeout(this.waiting);
    this.element.replaceChildren();
  }

  private soon(): void {
    window.clearTimeout(this.waiting);
    if (this.state.values.playing) return;
    this.waiting = window.setTimeout(() => void this.show(), WAIT_MS);
  }

  private async show(): Promise<void> {
    const { position } = this.state.values;
    const drawing = await this.session.drawn(position).catch(() => null);
    if (position !== this.state.values.position) return;
    this.listed = position;
    this.fill(drawing);
    this.select();
  }

  private fill(drawing: Drawing | null): void {
    const count = drawing?.frame.labels.length ?? 0;
    this.count.textContent = String(count);
    const notes = drawing?.frame.notes ?? [];
    this.notes.textContent = notes.join("; ");
    this.notes.hidden = notes.length === 0;
    const rows = Array.from({ length: Math.min(count, MOST) }, (_, index) => this.row(drawing, index));
    this.list.replaceChildren(...rows);
    if (count > MOST) {
      this.list.append(el("p", { class: "soft" }, `and ${(count - MOST).toLocaleString("en")} more`));
    }
    if (!count) this.list.append(el("p", { class: "soft" }, "Nothing was detected in this frame."));
  }

  private row(drawing: Drawing | null, index: number): HTMLElement {
    const frame = drawing?.frame;
    const label = drawing?.labels[frame?.labels[index] ?? -1];
    const score = frame?.scores[index];
    const track = frame?.tracks?.find(([d]) => d === index)?.[1];
    return el(
      "button",
      {
        type: "button",
        role: "option",
        class: "found-row",
        "data-index": index,
        click: () => {
          const isSelected = this.state.values.selected === index;
          this.state.set({ selected: isSelected ? null : index });
        },
      },
      el("bdi", { class: "label-name" }, label === "" ? EMPTY_LABEL : (label ?? "(no label)")),
      el("span", { class: "soft" }, track === undefined ? "" : `#${track}`),
      el("span", { class: "label-count" }, typeof score === "number" ? score.toFixed(2) : ""),
    );
  }

  /** Arrow keys go through the list. */
  private pressed(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined || !(event.target instanceof HTMLElement)) return;
    const next = step > 0 ? event.target.nextElementSibling : event.target.previousElementSibling;
    if (next instanceof HTMLButtonElement) next.focus();
    event.preventDefault();
    event.stopPropagation();
  }

  private select(): void {
    const { selected, position } = this.state.values;
    for (const row of this.list.querySelectorAll<HTMLElement>("[role=option]")) {
      const isSelected = row.dataset.index === String(selected);
      row.setAttribute("aria-selected", String(isSelected));
      if (isSelected) reveal(row, slot("beside"));
    }
    this.loading.abort();
    this.loading = new AbortController();
    if (selected === null) this.one.replaceChildren();
    else if (position === this.listed) void this.load(position, selected, this.loading.signal);
  }

  private async load(position: number, selected: number, signal: AbortSignal): Promise<void> {
    try {
      const row = await this.session.details(position, signal);
      if (signal.aborted) return;
      const { detections, ...others } = row;
      const found: Cell = Array.isArray(detections) ? (detections[selected] ?? null) : (detections ?? null);
      this.one.replaceChildren(
        el(
          "header",
          {},
          el("h2", {}, `Detection ${selected}`),
          el("button", { type: "button", class: "quiet small", click: () => { this.state.set({ selected: null }); } }, "Close"),
        ),
        tree(found),
        el("details", {}, el("summary", {}, `Its frame: ${plural(Object.keys(others).length, "column")}`), tree(others)),
      );
    } catch (error) {
      if (isAbort(error)) return;
      this.one.replaceChildren(el("p", { class: "soft" }, message(error)));
    }
  }
}
