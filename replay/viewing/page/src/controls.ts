// The buttons below the picture.

import type { Session } from "./data";
import { el } from "./dom";
import { icon, type Icon } from "./icons";
import type { State, Values } from "./state";
import { clock } from "./words";

export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8];

export interface Actions {
  toggle(): void;
  step(by: number): void;
  mark(dir: 1 | -1): void;
  full(): void;
}

export class Controls {
  readonly element: HTMLElement;
  private readonly play: HTMLButtonElement;
  private readonly seek: HTMLInputElement;
  private readonly frame: HTMLInputElement;
  private readonly speed: HTMLSelectElement;
  private readonly loop: HTMLButtonElement;
  private readonly shorten: HTMLButtonElement;
  private readonly range = el("span", { class: "range" });
  private readonly ends: (() => void)[];

  constructor(
    private readonly session: Session,
    private readonly state: State,
    actions: Actions,
  ) {
    this.play = button("play", "Play (Space)", () => { actions.toggle(); });
    this.play.classList.add("play");
    this.seek = this.seekBar();
    this.frame = this.frameField();
    this.speed = this.speedField();
    this.loop = button("loop", "Repeat the marked part", () => {
      state.set({ loop: !state.values.loop });
    });
    this.shorten = button("gaps", "Play gaps as one second", () => {
      state.set({ shorten: !state.values.shorten });
    });
    this.element = el(
      "div",
      { class: "controls" },
      this.seek,
      el(
        "div",
        { class: "buttons", role: "toolbar", "aria-label": "Playing" },
        button("markBack", "Previous mark (p)", () => { actions.mark(-1); }),
        button("stepBack", "One frame back (,)", () => { actions.step(-1); }),
        this.play,
        button("step", "One frame on (.)", () => { actions.step(1); }),
        button("mark", "Next mark (n)", () => { actions.mark(1); }),
        el("label", { class: "field" }, "Frame", this.frame),
        el("label", { class: "field" }, "Speed", this.speed),
        this.loop,
        this.shorten,
        this.range,
        button("full", "Whole screen (f)", () => { actions.full(); }),
      ),
    );
    this.ends = [
      state.on(
        ["position", "frame", "playing", "speed", "loop", "shorten", "range"],
        (values) => { this.update(values); },
      ),
      session.on(() => { this.update(state.values); }),
    ];
    this.update(state.values);
  }

  close(): void {
    for (const end of this.ends) end();
  }

  update(values: Readonly<Values>): void {
    this.play.replaceChildren(icon(values.playing ? "pause" : "play"));
    name(this.play, values.playing ? "Pause (Space)" : "Play (Space)");
    this.seek.max = String(Math.max(this.session.n - 1, 0));
    this.seek.value = String(values.position);
    const t = this.session.rowNow(values.position)?.t ?? null;
    this.seek.setAttribute(
      "aria-valuetext",
      `frame ${values.frame ?? values.position}${t === null ? "" : `, ${clock(t)}`}`,
    );
    const share = this.session.n > 1 ? values.position / (this.session.n - 1) : 0;
    this.seek.style.setProperty("--share", `${share * 100}%`);
    if (document.activeElement !== this.frame) this.frame.value = String(values.frame ?? "");
    this.showSpeed(values.speed);
    this.loop.setAttribute("aria-pressed", String(values.loop));
    this.shorten.setAttribute("aria-pressed", String(values.shorten));
    const { range } = values;
    this.range.textContent = range ? `${clock(range.from)} – ${clock(range.to)}` : "";
  }

  private seekBar(): HTMLInputElement {
    const seek = el("input", { type: "range", class: "seek", min: 0, step: 1, "aria-label": "Position" });
    seek.addEventListener("input", () => {
      this.state.go(Number(seek.value));
    });
    return seek;
  }

  private frameField(): HTMLInputElement {
    const field = el("input", { type: "text", inputmode: "numeric", size: 8, class: "frame" });
    const go = () => {
      const frame = Number(field.value);
      if (field.value.trim() && Number.isSafeInteger(frame)) this.state.set({ frame });
      field.value = String(this.state.values.frame ?? "");
    };
    field.addEventListener("change", go);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") field.blur();
      if (event.key === "Enter") {
        go();
        field.blur();
      }
    });
    return field;
  }

  private speedField(): HTMLSelectElement {
    const field = el(
      "select",
      {},
      ...SPEEDS.map((speed) => el("option", { value: speed }, `${speed}×`)),
    );
    field.addEventListener("change", () => {
      this.state.set({ speed: Number(field.value) });
    });
    return field;
  }

  private showSpeed(speed: number): void {
    // Shuttling goes backwards too, which the list does not offer.
    if (!SPEEDS.includes(speed) && ![...this.speed.options].some((o) => o.value === String(speed))) {
      this.speed.append(el("option", { value: speed }, `${speed}×`));
    }
    this.speed.value = String(speed);
  }
}

function button(sign: Icon, text: string, run: () => void): HTMLButtonElement {
  const made = el("button", { type: "button", class: "icon", click: run }, icon(sign));
  name(made, text);
  return made;
}

function name(made: HTMLButtonElement, text: string): void {
  if (made.title === text) return;
  made.title = text;
  made.setAttribute("aria-label", text.replace(/ \(.*/, ""));
}
