// An answer as a table: only the rows in sight are on the page.

import type { Cell, SqlAnswer } from "./data";
import { el } from "./dom";

const ROW_HEIGHT = 24;
const BESIDE = 8;
/** Rows that decide how wide a column is, and its bounds in letters. */
const [LOOKED_AT, NARROWEST, WIDEST] = [200, 6, 44];

export class SqlTable {
  readonly element: HTMLElement;
  private readonly body = el("tbody", {});
  private first = -1;
  private current = -1;

  constructor(
    private readonly answer: SqlAnswer,
    private readonly go: ((row: number) => void) | null,
  ) {
    const widths = answer.columns.map(({ name }, c) => width(name, answer.rows, c));
    const head = answer.columns.map(({ name, type, numeric }) =>
      el("th", { scope: "col", title: `${name}: ${type}`, class: numeric ? "number" : "" }, name),
    );
    const columns = widths.map((letters) => {
      const column = el("col", {});
      column.style.width = `${letters}ch`;
      return column;
    });
    const table = el(
      "table",
      { class: "answer", "aria-label": "Answer", "aria-rowcount": answer.rows.length + 1 },
      el("colgroup", {}, ...columns, el("col", {})),
      el("thead", {}, el("tr", {}, ...head, el("th", { "aria-hidden": "true" }))),
      this.body,
    );
    table.style.minWidth = `${widths.reduce((a, b) => a + b, 0)}ch`;
    this.element = el(
      "div",
      {
        class: `answer-scroll${go ? " has-frames" : ""}`,
        tabindex: 0,
        role: "region",
        "aria-label": "Answer",
        "data-arrows": true,
      },
      table,
    );
    this.element.addEventListener("scroll", () => { this.draw(); }, { passive: true });
    this.element.addEventListener("keydown", (event) => { this.pressed(event); });
    this.body.addEventListener("click", (event) => {
      const row = event.target instanceof Element ? event.target.closest("tr") : null;
      if (row?.dataset.row && !window.getSelection()?.toString()) this.choose(Number(row.dataset.row));
    });
    this.draw();
  }

  /** Put the rows in sight on the page, with empty room for the others. */
  draw(force = false): void {
    const { rows } = this.answer;
    const height = this.element.clientHeight || 320;
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW_HEIGHT) - BESIDE);
    if (!force && first === this.first) return;
    this.first = first;
    const end = Math.min(rows.length, first + Math.ceil(height / ROW_HEIGHT) + 2 * BESIDE);
    const shown: HTMLElement[] = [];
    for (let r = first; r < end; r++) shown.push(this.row(r));
    this.body.replaceChildren(room(first), ...shown, room(rows.length - end));
  }

  private row(r: number): HTMLElement {
    const cells = (this.answer.rows[r] ?? []).map((cell, c) => {
      const column = this.answer.columns[c];
      const text = cellText(cell);
      const kind = [
        column?.numeric ? "number" : "",
        cell === null ? "null" : "",
        c === this.answer.frame_column && this.go ? "frame" : "",
      ];
      return el("td", { class: kind.join(" ").trim(), title: text.length > 20 ? text : null }, text);
    });
    const is = r === this.current;
    return el("tr", { "data-row": r, "aria-rowindex": r + 2, class: is ? "current" : "" }, ...cells, el("td", {}));
  }

  private choose(row: number): void {
    this.current = row;
    this.draw(true);
    this.go?.(row);
  }

  private pressed(event: KeyboardEvent): void {
    const last = this.answer.rows.length - 1;
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW_HEIGHT) - 2);
    const to = {
      ArrowDown: this.current + 1,
      ArrowUp: this.current - 1,
      PageDown: this.current + page,
      PageUp: this.current - page,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    const row = Math.min(Math.max(to, 0), last);
    const [top, room] = [row * ROW_HEIGHT, this.element.clientHeight - 2 * ROW_HEIGHT];
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top > this.element.scrollTop + room) this.element.scrollTop = top - room;
    this.choose(row);
  }
}

function room(rows: number): HTMLElement {
  const spacer = el("tr", { class: "room", "aria-hidden": "true" });
  spacer.style.height = `${rows * ROW_HEIGHT}px`;
  return spacer;
}

function width(name: string, rows: Cell[][], c: number): number {
  let letters = name.length;
  for (const row of rows.slice(0, LOOKED_AT)) letters = Math.max(letters, cellText(row[c] ?? null).length);
  return Math.min(Math.max(letters, NARROWEST), WIDEST) + 3;
}

/** A value as `dgrec query` writes it in a table. */
export function cellText(cell: Cell): string {
  if (cell === null) return "NULL";
  if (typeof cell === "number" && !Number.isInteger(cell)) {
    const size = Math.abs(cell);
    if (size >= 1e-3 && size < 1e15) return cell.toFixed(6).replace(/(\.\d+?)0+$/, "$1");
    return String(cell);
  }
  return typeof cell === "object" ? JSON.stringify(cell) : String(cell);
}
