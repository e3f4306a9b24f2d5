// Commands to copy for the marked part.

import { copyable } from "./copy";
import { isAbort, message, type Session } from "./data";
import { el } from "./dom";
import { pathArgument, quoted, stem } from "./shell";
import type { State } from "./state";
import { bytes, clock, length, plural } from "./words";

/** Formats of an export: name, and suffix of the output. */
const FORMATS: [string, string][] = [
  ["coco", ".json"],
  ["yolo", ""],
  ["csv", ".csv"],
  ["mot", ""],
  ["cvat", ".xml"],
  ["mcap", ".mcap"],
  ["rrd", ".rrd"],
  ["perfetto", ".pftrace"],
];

export class RangePanel {
  readonly element = el("section", { class: "range-panel", "aria-label": "Marked part", hidden: true });
  private readonly format = el(
    "select",
    { "aria-label": "Format of the export" },
    ...FORMATS.map(([name]) => el("option", { value: name }, name)),
  );
  private readonly off: () => void;
  private abort = new AbortController();
  private rows: { first: number; last: number } | null = null;
  private readonly note = el("p", { class: "range-note", role: "status" });
  private isAllowed = false;

  constructor(
    private readonly session: Session,
    private readonly state: State,
  ) {
    this.format.addEventListener("change", () => { this.draw(); });
    this.off = state.on(["range"], () => void this.follow());
    void this.follow();
  }

  close(): void {
    this.abort.abort();
    this.off();
  }

  private async follow(): Promise<void> {
    this.abort.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const { range } = this.state.values;
    this.element.hidden = !range;
    this.note.textContent = "";
    if (!range) return;
    try {
      this.isAllowed = await this.session.makes();
      const [first, last] = await Promise.all([
        this.session.at({ t: range.from }),
        this.session.at({ t: range.to }),
      ]);
      if (signal.aborted) return;
      this.rows = { first: Math.min(first, last), last: Math.max(first, last) };
      this.draw();
    } catch (error) {
      if (!isAbort(error) && !signal.aborted) this.element.replaceChildren(String(error));
    }
  }

  private draw(): void {
    const { range } = this.state.values;
    if (!range || !this.rows) return;
    const { first, last } = this.rows;
    const words = `${clock(range.from)} – ${clock(range.to)}, ${length(range.to - range.from)}, ${plural(last - first + 1, "frame")}`;
    const { path } = this.session.card;
    const lines: [string, string][] = [
      ["Clip", clipCommand(path, first, last)],
      ["Export", exportCommand(path, first, last, this.format.value)],
      ["PNG", pngCommand(path, first, last)],
    ];
    this.element.replaceChildren(
      el(
        "header",
        {},
        el("h3", {}, "Marked"),
        el("span", { class: "range-words" }, words),
        this.button("Zoom", () => { this.state.set({ window: range }); }),
        this.button("Clear", () => { this.state.set({ range: null }); }),
      ),
      ...(path ? lines : []).map(([name, command]) =>
        el(
          "div",
          { class: "range-command", "data-command": name.toLowerCase() },
          el("span", { class: "range-name" }, name),
          name === "Export" ? this.format : null,
          copyable(command),
          ...(this.isAllowed ? [this.download(name)] : []),
        ),
      ),
      this.note,
    );
  }

  /** A button that has the server run the command, and saves what it makes. */
  private download(name: string): HTMLButtonElement {
    const button = this.button("Download", () => {
      button.disabled = true;
      this.note.textContent = `the ${name === "PNG" ? name : name.toLowerCase()} is being made`;
      void this.make(name.toLowerCase()).finally(() => { button.disabled = false; });
    });
    button.classList.add("download");
    return button;
  }

  private async make(kind: string): Promise<void> {
    if (!this.rows) return;
    const { signal } = this.abort;
    try {
      const made = await this.session.make({ kind, ...this.rows, format: this.format.value }, signal);
      this.note.textContent = `${made.name}, ${bytes(made.bytes)}`;
      el("a", { href: this.session.source.address("made", { id: made.id }), download: made.name }).click();
    } catch (error) {
      if (!signal.aborted) this.note.textContent = isAbort(error) ? "" : message(error);
    }
  }

  private button(text: string, run: () => void): HTMLButtonElement {
    return el("button", { type: "button", class: "quiet", click: run }, text);
  }
}

export function clipCommand(path: string, first: number, last: number): string {
  return `dgrec clip ${stretch(path, first, last)} -o ${quoted(name(path, first, last) + ".parquet")}`;
}

export function exportCommand(path: string, first: number, last: number, format: string): string {
  const suffix = FORMATS.find(([one]) => one === format)?.[1] ?? "";
  const output = name(path, first, last) + (suffix || `-${format}`);
  return `dgrec export ${stretch(path, first, last)} --format ${format} -o ${quoted(output)}`;
}

export function pngCommand(path: string, first: number, last: number): string {
  const count = last - first + 1;
  const [columns, rows] = count >= 16 ? [4, 4] : count >= 4 ? [2, 2] : [1, 1];
  const sheet = `--contact-sheet ${columns}x${rows}`;
  return `dgrec replay ${stretch(path, first, last)} ${sheet} -o ${quoted(name(path, first, last) + ".png")}`;
}

/** The session, and its rows: numbers are positions of frames, and the end is not included. */
function stretch(path: string, first: number, last: number): string {
  return `${pathArgument(path)} --start ${first} --end ${last + 1}`;
}

function name(path: string, first: number, last: number): string {
  return `${stem(path)}-${first}-${last}`;
}

