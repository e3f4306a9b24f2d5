// Two recordings side by side, frame paired with frame.

import { Beside } from "./companion";
import { isAbort, message } from "./data";
import { DifferencePanel } from "./differences";
import { el } from "./dom";
import type { Keys } from "./keys";
import type { Difference, PairedSession, Verdict } from "./paired";
import { Player } from "./player";
import type { State } from "./state";
import { Timeline } from "./timeline";
import { table } from "./why";

export interface PairPlaces {
  player: HTMLElement;
  timeline: HTMLElement;
  /** The verdict in a line, at the top. */
  top: HTMLElement;
  /** Differences of the frame shown. */
  below: HTMLElement;
  /** The tables of `dgrec compare`. */
  tables: HTMLElement;
}

/** While the comparison runs, it is looked at again after this: at first, and at last. */
const [AGAIN_MS, AGAIN_AT_LAST_MS] = [300, 3000];
/** A recording in progress is looked at again after this, or later where that takes long. */
const GROWS_MS = 3000;
const SHARE = 0.1;

export class PairView {
  private readonly beside: Beside;
  private readonly player: Player;
  private readonly timeline: Timeline;
  private readonly panel = new DifferencePanel((difference) => { this.select(difference); });
  private readonly abort = new AbortController();
  private readonly ends: (() => void)[];
  private waiting = 0;
  private wait = AGAIN_MS;
  private growing = 0;
  private isJudged = false;

  constructor(
    private readonly places: PairPlaces,
    private readonly session: PairedSession,
    private readonly state: State,
    keys: Keys,
  ) {
    const { other, summary } = session;
    this.beside = new Beside(session, state, (pair) => { this.panel.show(pair, summary.reason); });
    this.player = new Player(places.player, session, state, keys, this.beside);
    const stages = [this.player.stage, this.beside.stage] as const;
    stages[0].moves = () => { stages[1].follow(stages[0]); };
    stages[1].moves = () => { stages[0].follow(stages[1]); };
    this.arrange();
    this.timeline = new Timeline(places.timeline, session, state, keys);
    places.below.replaceChildren(this.panel.element);
    this.ends = [
      state.on(["filter", "selected"], () => { this.beside.follow(); }),
      keys.add({ keys: ["x"], group: "Side by side", text: "A becomes B, and B becomes A", run: () => void this.swap() }),
    ];
    this.say("comparing", "");
    if (summary.reason) this.say(summary.reason, "");
    places.player.dataset.paired = String(summary.paired);
    places.player.dataset.other = other.card.s;
    void this.judge();
    if (session.grows) this.renewLater(GROWS_MS);
  }

  close(): void {
    this.abort.abort();
    window.clearTimeout(this.waiting);
    window.clearTimeout(this.growing);
    for (const end of this.ends) end();
    this.player.close();
    this.beside.close();
    this.timeline.close();
    for (const place of Object.values(this.places) as HTMLElement[]) place.replaceChildren();
  }

  /** A and its picture on the left, B and its own on the right; on a phone, one below the other. */
  private arrange(): void {
    const { player } = this.places;
    const { session, state } = this;
    const name = (letter: string, text: string, s: string) =>
      el(
        "h2",
        { class: `side-name side-${letter.toLowerCase()}`, title: text },
        el("b", {}, letter),
        el("a", { href: `#s=${encodeURIComponent(s)}`, title: `Show only ${letter}` }, text),
      );
    const names = [name("A", session.card.s, session.card.s), name("B", session.other.card.s, session.other.card.s)];
    for (const [k, link] of names.entries()) {
      link.querySelector("a")?.addEventListener("click", (event) => {
        event.preventDefault();
        const { frame } = state.values;
        state.show(k ? session.other.card.s : session.card.s, k ? {} : { frame });
      });
    }
    this.player.stage.element.classList.add("side-a");
    this.beside.stage.element.classList.add("side-b");
    this.beside.hud.element.classList.add("side-b");
    player.prepend(...names);
    player.append(this.beside.stage.element, this.beside.hud.element);
  }

  private say(first: string, rest: string): void {
    const swap = el("button", { type: "button", class: "quiet", title: "A becomes B, and B becomes A (x)", click: () => void this.swap() }, "Swap");
    this.places.top.replaceChildren(el("b", { class: "verdict-first" }, first), el("span", { class: "verdict-rest" }, rest), swap);
  }

  private select({ a, b }: Difference): void {
    this.state.set({ playing: false, selected: a });
    if (a === null) this.beside.select(b);
  }

  /** Show B as A, at the same frame. */
  private async swap(): Promise<void> {
    const { session } = this;
    const pair = await session.pair(this.state.values.position).catch(() => null);
    const partner = pair?.partner ?? null;
    const row = partner === null ? null : await session.other.row(partner).catch(() => null);
    if (this.abort.signal.aborted) return;
    this.state.show(session.other.card.s, { other: session.card.s, ...(row ? { frame: row.frame } : {}) });
  }

  // One of them is being recorded

  private renewLater(wait: number): void {
    this.growing = window.setTimeout(() => void this.renew(), wait);
  }

  private async renew(): Promise<void> {
    const { session, state, abort } = this;
    const began = performance.now();
    try {
      const { state: before } = session.other.card;
      const partner = session.pairNow(state.values.position)?.partner;
      const isSeen = !document.hidden;
      if (isSeen && (await session.renew(abort.signal))) {
        this.beside.hud.grew();
        if (session.other.card.state !== before) this.beside.refresh();
        const pair = await session.pair(state.values.position).catch(() => null);
        if (abort.signal.aborted) return;
        this.places.player.dataset.paired = String(session.summary.paired);
        if (this.beside.isWaiting || (pair && pair.partner !== partner)) this.player.again();
        window.clearTimeout(this.waiting);
        this.wait = AGAIN_MS;
        void this.judge();
      } else if (isSeen && this.beside.hasFailed) {
        this.player.again();
      }
    } catch (error) {
      if (isAbort(error)) return; // else the server may answer again
    }
    if (session.grows) this.renewLater(Math.max(GROWS_MS, (performance.now() - began) / SHARE));
  }

  // The verdict of `dgrec compare`, once it is there

  private async judge(): Promise<void> {
    try {
      const verdict = await this.session.verdict(this.abort.signal);
      this.panel.total(verdict);
      this.put(verdict);
      if (verdict.state !== "comparing") {
        this.timeline.refreshMarks();
        return;
      }
      if (verdict.share > 0) this.timeline.refreshMarks();
    } catch (error) {
      if (isAbort(error)) return;
      this.say(message(error), "");
      return;
    }
    this.waiting = window.setTimeout(() => void this.judge(), this.wait);
    this.wait = Math.min(this.wait * 1.5, AGAIN_AT_LAST_MS);
  }

  private put({ state, share, problem, conclusion, notes, tables }: Verdict): void {
    this.places.top.dataset.state = state;
    if (state === "failed") {
      this.say(problem, "");
    } else if (state === "comparing") {
      if (this.isJudged) return; // it has grown: the old verdict stays until the new one
      this.say("comparing", share > 0 ? `${Math.floor(share * 100)}% of the frames` : "speed");
    } else {
      this.isJudged = true;
      const { reason, n, n_b, paired } = this.session.summary;
      const [first = "", ...rest] = conclusion.map((text) => text.replace(/\bBASE\b/g, "A").replace(/\bNEW\b/g, "B"));
      const alone = reason || (paired < Math.max(n, n_b) ? `${paired.toLocaleString("en")} frames are in both.` : "");
      const grows = this.session.grows ? "Recording goes on: what comes is paired, too." : "";
      this.say(first, [...rest, alone, grows].filter(Boolean).join(" "));
      const text = el("details", { class: "verdict-notes" }, el("summary", {}, "How to read this"), ...notes.map((note) => el("p", {}, note)));
      this.places.tables.replaceChildren(
        el("h2", { class: "verdict-title" }, "Comparison: BASE is A, NEW is B"),
        ...tables.map((each) => table(each)),
        text,
      );
    }
  }
}
