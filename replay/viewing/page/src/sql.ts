// Questions in SQL, their answers as a table.

import { copyButton, copyable } from "./copy";
import { isAbort, message, type Question, questions, type Session, type SqlAnswer } from "./data";
import { el } from "./dom";
import type { Keys } from "./keys";
import { WhereField } from "./matching";
import { queryCommand } from "./shell";
import { SqlTable } from "./sqltable";
import type { State } from "./state";
import { plural } from "./words";

const LIMIT = 5000;
const EXAMPLE = "SELECT frame, latency_ms FROM frames ORDER BY latency_ms DESC LIMIT 20";

export class SqlPanel {
  private readonly text: HTMLTextAreaElement;
  private readonly status = el("span", { class: "sql-status", role: "status" });
  private readonly result = el("div", { class: "sql-result" });
  private readonly command = el("div", { class: "sql-command", hidden: true });
  private readonly library = el("div", { class: "questions" });
  private readonly run = el("button", { type: "button", class: "primary", title: "Run (Ctrl+Enter)" }, "Run");
  private readonly where: WhereField;
  private readonly ends: (() => void)[];
  private table: SqlTable | null = null;
  private history: string[] = [];
  private at = 0;
  private asking = new AbortController();
  private asked = "";

  constructor(
    private readonly element: HTMLElement,
    private readonly session: Session,
    private readonly state: State,
    keys: Keys,
  ) {
    this.text = el("textarea", {
      class: "sql-text",
      rows: 3,
      spellcheck: "false",
      autocapitalize: "off",
      autocomplete: "off",
      "aria-label": "SQL",
      placeholder: EXAMPLE,
    });
    this.text.addEventListener("keydown", (event) => { this.pressed(event); });
    this.text.addEventListener("input", () => { this.fit(); });
    this.run.addEventListener("click", () => void this.ask(this.text.value));
    this.where = new WhereField(session, state);
    const { hasServer, note } = session.source;
    this.where.element.hidden = !hasServer;
    element.replaceChildren(
      this.where.element,
      el("div", { class: "sql-edit" }, this.text, this.bar()),
      this.command,
      this.result,
      el("p", { class: "sql-note", hidden: !note }, note),
      el("details", { class: "sql-questions", open: !hasServer }, el("summary", {}, "Questions"), this.library),
    );
    this.ends = [
      state.on(["sql"], ({ sql }) => { if (sql !== this.asked) void this.ask(sql); }),
      state.on(["offered"], () => { this.offer(); }),
      keys.add({
        keys: ["/"],
        group: "SQL",
        text: "write SQL; Ctrl+Enter runs it, Escape leaves it",
        run: () => {
          this.text.focus();
          this.text.scrollIntoView({ block: "nearest" });
        },
      }),
    ];
    void this.fill();
    if (state.values.sql) void this.ask(state.values.sql);
    this.offer();
  }

  /** Remove everything that this has put on the page, and its listeners. */
  close(): void {
    this.asking.abort();
    this.where.close();
    for (const end of this.ends) end();
    this.element.replaceChildren();
  }

  private bar(): HTMLElement {
    const step = (text: string, title: string, by: 1 | -1) =>
      el("button", { type: "button", class: "quiet", title, "aria-label": title.replace(/ \(.*/, ""), click: () => { this.recall(by); } }, text);
    return el(
      "div",
      { class: "sql-bar" },
      this.run,
      step("‹", "The statement before (Alt+↑)", -1),
      step("›", "The statement after (Alt+↓)", 1),
      this.status,
    );
  }

  private pressed(event: KeyboardEvent): void {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void this.ask(this.text.value);
    } else if (event.key === "Escape") {
      this.text.blur();
    } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      this.recall(event.key === "ArrowUp" ? -1 : 1);
    }
  }

  /** As many lines as the statement has, within limits. */
  private fit(): void {
    this.text.rows = Math.min(Math.max(this.text.value.split("\n").length, 3), 14);
  }

  private put(sql: string): void {
    this.text.value = sql;
    this.fit();
  }

  /** Show a link's statement, not run: it may be anyone's, and costly. */
  private offer(): void {
    const { sql } = this.state.values.offered;
    this.run.classList.toggle("offered", !!sql);
    if (!sql) return;
    this.put(sql);
    this.status.textContent = "from the link: run it to see its rows";
    this.status.className = "sql-status";
  }

  private recall(by: 1 | -1): void {
    const to = this.at + by;
    if (to < 0 || to > this.history.length) return;
    this.at = to;
    this.put(this.history[to] ?? "");
  }

  private async ask(sql: string): Promise<void> {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    this.asked = sql;
    if (this.text.value !== sql) this.put(sql);
    if (!sql.trim()) {
      this.clear();
      return;
    }
    if (this.history[this.history.length - 1] !== sql) this.history.push(sql);
    this.at = this.history.length - 1;
    this.state.set({ sql });
    this.status.textContent = "running";
    this.status.className = "sql-status";
    try {
      const answer = await this.session.sql(sql, LIMIT, signal);
      if (answer.error !== undefined) this.fail(answer.error);
      else this.show(answer, sql);
    } catch (error) {
      if (!isAbort(error)) this.fail(message(error));
    }
  }

  private clear(): void {
    this.status.textContent = "";
    this.result.replaceChildren();
    this.command.hidden = true;
    this.state.set({ sql: "", hits: [] });
  }

  private fail(text: string): void {
    this.status.textContent = text;
    this.status.className = "sql-status wrong";
    this.result.replaceChildren();
    this.command.hidden = true;
    this.state.set({ hits: [] });
  }

  private show(answer: SqlAnswer, sql: string): void {
    const { places, rows } = answer;
    const count = rows.length.toLocaleString("en");
    const left = answer.truncated ? ", more were left out" : "";
    this.status.textContent = `${rows.length === 1 ? "1 row" : `${count} rows`}${left}, ${answer.elapsed_ms} ms`;
    const go = (row: number) => {
      const place = places?.[row];
      if (!place) return;
      // Its position may have changed.
      const frame = Number(rows[row]?.[answer.frame_column ?? -1] ?? NaN);
      this.state.set({ playing: false });
      this.state.go(place[0], Number.isSafeInteger(frame) ? frame : null);
    };
    this.table = new SqlTable(answer, places ? go : null);
    this.result.replaceChildren(this.table.element);
    this.table.draw(true);
    const hits = (places ?? []).flatMap((place) => {
      const [i, t] = place ?? [0, null];
      return t === null ? [] : [{ i, t, count: 1 }];
    });
    this.state.set({ hits });
    const { path } = this.session.card;
    this.command.replaceChildren(copyable(queryCommand(path, sql)));
    this.command.hidden = !path;
  }

  private async fill(): Promise<void> {
    const all = await questions(this.session.source).catch(() => []);
    this.library.replaceChildren(...all.map((question) => this.question(question)));
    this.library.title = plural(all.length, "question");
  }

  private question({ name, text, sql, definition }: Question): HTMLElement {
    const code = el("pre", { class: "question-sql", tabindex: 0 }, definition);
    const ask = el("button", { type: "button", class: "question-name", title: text }, name);
    ask.addEventListener("click", () => void this.ask(sql));
    return el(
      "div",
      { class: "question" },
      ask,
      el("p", { class: "question-text" }, text),
      el("details", {}, el("summary", {}, "SQL"), el("div", { class: "question-code" }, code, copyButton(() => code))),
    );
  }
}
