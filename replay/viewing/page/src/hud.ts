// The line below the picture: the frame, and how long its stages took.

import type { Row, Session } from "./data";
import { el } from "./dom";
import { clock, milliseconds, stageName } from "./words";

export class Hud {
  readonly element = el("div", { class: "hud" });
  private readonly values = new Map<string, Text>();
  private readonly lost = el("span", { class: "hud-lost" });
  private readonly note = el("p", { class: "hud-note", hidden: true });

  private frame: number | null = null;

  constructor(private readonly session: Session) {
    const line = el("dl", { class: "hud-line" });
    line.append(this.field("frame"), this.field("time"), this.field("detections"), this.lost);
    this.element.append(line, this.note);
  }

  show(row: Row): void {
    this.frame = row.frame;
    this.grew();
    this.put("time", row.t === null ? "–" : clock(row.t));
    this.put("detections", String(row.n));
    const { stages } = this.session.card;
    const { latency_ms = null, ...others } = row.ms;
    for (const [name, value] of Object.entries({ latency_ms, ...others })) {
      // The card may not know the stages yet.
      if (!this.values.has(name) && (value !== null || stages.includes(name))) {
        this.lost.before(this.field(name, name === "latency_ms" ? "hud-main" : ""));
      }
      this.put(name, milliseconds(value));
    }
    const lost = [
      row.dropped > 0 ? `${row.dropped} dropped before` : "",
      row.skipped > 0 ? `${row.skipped} skipped before` : "",
    ].filter(Boolean);
    this.lost.textContent = lost.join(", ");
  }

  /** There may be more frames than when the row was shown. */
  grew(): void {
    if (this.frame === null) return;
    const last = this.session.card.last_frame;
    this.put("frame", last === null ? String(this.frame) : `${this.frame} / ${last}`);
  }

  /** Say in one line where the pictures come from, if that is not the usual way. */
  say(text: string): void {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  private field(name: string, kind = ""): HTMLElement {
    const value = document.createTextNode("–");
    this.values.set(name, value);
    return el("div", { class: `hud-field ${kind}` }, el("dt", {}, stageName(name)), el("dd", {}, value));
  }

  private put(name: string, text: string): void {
    const value = this.values.get(name);
    if (value && value.data !== text) value.data = text;
  }
}
