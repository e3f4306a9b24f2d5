// The recording's limits: sentences, and how busy each stage was.

import { isAbort, message, type Session, type Why } from "./data";
import { el } from "./dom";

export class WhyPanel {
  private readonly element = el("section", { class: "why", "aria-label": "What limited it" });
  private readonly abort = new AbortController();
  private isAsked = false;

  /** It is measured once the box is opened. */
  constructor(
    box: HTMLElement,
    private readonly session: Session,
  ) {
    const show = () => { if ((box as HTMLDetailsElement).open) void this.show(); };
    box.addEventListener("toggle", show, { signal: this.abort.signal });
    box.append(this.element);
    show();
  }

  close(): void {
    this.abort.abort();
    this.element.remove();
  }

  /** Ask only once: a day takes a second or two. */
  private async show(): Promise<void> {
    if (this.isAsked) return;
    this.isAsked = true;
    this.element.replaceChildren(el("p", { class: "why-wait" }, "measuring"));
    try {
      this.fill(await this.session.why(this.abort.signal));
    } catch (error) {
      if (isAbort(error)) return;
      this.isAsked = false;
      this.element.replaceChildren(el("p", { class: "wrong" }, message(error)));
    }
  }

  private fill(why: Why): void {
    this.element.replaceChildren(
      el("ul", { class: "why-findings" }, ...why.findings.map((text) => el("li", {}, text))),
      ...why.caveats.map((text) => el("p", { class: "why-caveat" }, text)),
      ...why.tables.map(table),
    );
  }
}

export function table({ title, columns, numeric, rows }: Why["tables"][number]): HTMLElement {
  const kind = (c: number) => (numeric[c] ? "number" : "");
  return el(
    "figure",
    { class: "why-table" },
    el("figcaption", {}, title),
    el(
      "div",
      { class: "why-scroll" },
      el(
        "table",
        { "aria-label": title },
        el("thead", {}, el("tr", {}, ...columns.map((name, c) => el("th", { scope: "col", class: kind(c) }, name)))),
        el(
          "tbody",
          {},
          ...rows.map((row) => el("tr", {}, ...row.map((cell, c) => el(c ? "td" : "th", { class: kind(c), scope: c ? null : "row" }, cell)))),
        ),
      ),
    ),
  );
}
