// The picture with its overlay, and the controls below it.

import { Controls, SPEEDS } from "./controls";
import { isAbort, message, type Row, type Session } from "./data";
import type { Drawing } from "./drawing";
import { slot } from "./dom";
import { Follower, type FollowerView } from "./follower";
import type { Moment } from "./happenings";
import { Hud } from "./hud";
import type { Keys, Shortcut } from "./keys";
import { BestPictures, type Picture } from "./pictures";
import { Playback, type PlaybackView } from "./playback";
import { Stage } from "./stage";
import type { Decode, State } from "./state";
import { clock, length, plural } from "./words";

const ANNOUNCE_MS = 300;
/** A picture is shown without its overlay when that takes longer. */
const OVERLAY_MS = 200;
/** Rows loaded around the one shown, and the wait after a jump: another may follow. */
const AROUND = 20;
const JUMPED_MS = 250;
/** When the page was just opened, lines are loaded first. */
const OPENED_MS = 1500;

/** What another recording beside this one changes. */
export interface Companion {
  /** A way to get pictures that waits for those of both. */
  pictures(session: Session, decode: Decode, say: (note: string) => void): BestPictures;
  /** A row is on the stage. */
  shown(row: Row): void;
  drawMore(context: CanvasRenderingContext2D, position: number, px: number, size: readonly [number, number]): void;
}

const MARKS = { kinds: "late,drop,gap,alert,event", names: "mark: late, dropped, gap, event, alert" };
const DIFFERENCES = { kinds: "difference", names: "frame that differs" };

export class Player implements PlaybackView, FollowerView {
  readonly stage: Stage;
  private readonly marks: typeof MARKS;
  private readonly hud: Hud;
  private readonly controls: Controls;
  private pictures: BestPictures;
  private readonly ends: (() => void)[] = [];
  private stop = new AbortController();
  private readonly follower: Follower;
  /** Position of the row on the stage. */
  private shown = -1;
  /** Whether its picture may come when more of the recording is written. */
  private isWaiting = false;
  private pictureNote = "";
  /** Whether the row is not there (yet). */
  private isMissing = false;
  private wasLive = false;
  /** The session's epoch when it was last looked at. */
  private epoch: number;
  private seeking = false;
  private isClosed = false;
  private announcing = 0;
  private loading = 0;
  private isFirst: () => void = () => undefined;
  /** Resolved once the first row is shown. */
  readonly first = new Promise<void>((resolve) => { this.isFirst = resolve; });

  constructor(
    private readonly element: HTMLElement,
    private readonly session: Session,
    private readonly state: State,
    keys: Keys,
    private readonly companion?: Companion,
  ) {
    this.wasLive = session.isLive;
    this.epoch = session.epoch;
    this.marks = companion ? DIFFERENCES : MARKS;
    this.stage = new Stage(session, state, companion && ((...of) => { companion.drawMore(...of); }));
    this.hud = new Hud(session);
    this.controls = new Controls(session, state, {
      toggle: () => { this.toggle(); },
      step: (by) => { this.step(by); },
      mark: (dir) => void this.mark(dir),
      full: () => { this.full(); },
    });
    element.replaceChildren(this.stage.element, this.controls.element, this.hud.element);
    this.pictures = this.open();
    this.ends.push(
      state.on(["position"], () => { this.follow(); }),
      state.on(["playing"], () => { this.playOrPause(); }),
      state.on(["filter", "selected", "trails"], () => { this.stage.drawOverlay(); }),
      state.on(["decode"], () => {
        this.pictures.close();
        this.pictures = this.open();
        this.shown = -1;
        this.follow();
      }),
      state.on(["follow"], ({ follow }) => {
        if (follow) this.state.set({ playing: false });
        this.stage.say("");
        this.shown = -1;
        this.follow();
      }),
      session.on(() => { this.grew(); }),
      keys.add(...this.shortcuts()),
    );
    this.follower = new Follower(session, state, this);
    this.follow();
  }

  close(): void {
    this.isClosed = true;
    this.stop.abort();
    for (const end of this.ends) end();
    this.follower.close();
    window.clearTimeout(this.announcing);
    window.clearTimeout(this.loading);
    this.pictures.close();
    this.controls.close();
    this.stage.close();
    this.element.replaceChildren();
  }

  private open(): BestPictures {
    this.sayOfPictures();
    const say = (note: string) => { this.hud.say(note); };
    const { decode } = this.state.values;
    return this.companion?.pictures(this.session, decode, say) ?? new BestPictures(this.session, decode, say);
  }

  /** Say what the card says of the pictures: a recording in progress may have some by now. */
  private sayOfPictures(): void {
    this.pictureNote = this.session.card.picture_note;
    this.hud.say(this.pictureNote);
  }

  // The row that the page is at

  /** Show the page's row on the stage; while a picture is loading, only the last goal counts. */
  private follow(): void {
    const { position, playing, follow } = this.state.values;
    if (follow && this.session.isLive) return; // the follower shows it
    if (position === this.shown) return;
    if (playing) {
      this.playOrPause(); // from there on
      return;
    }
    if (!this.seeking) void this.seek();
  }

  private async seek(): Promise<void> {
    this.seeking = true;
    this.element.setAttribute("aria-busy", "true");
    try {
      while (!this.isClosed && !this.state.values.playing) {
        const { position, follow } = this.state.values;
        if (position === this.shown || (follow && this.session.isLive)) break;
        await this.showAt(position);
      }
    } finally {
      this.seeking = false;
      this.element.removeAttribute("aria-busy");
    }
  }

  private async showAt(position: number): Promise<void> {
    const { epoch } = this;
    let row: Row;
    try {
      row = await this.session.row(position);
    } catch (error) {
      if (isAbort(error)) return; // it is somewhere else
      this.hud.say(message(error));
      this.shown = position; // as near as possible
      this.isMissing = true;
      return;
    }
    const before = this.shown;
    const drawn = this.session.drawn(position).catch(() => null);
    let why = "";
    let picture: Picture | null = null;
    try {
      picture = await this.pictures.picture(row);
    } catch (error) {
      if (isAbort(error)) return; // it is somewhere else, or its pictures come in another way
      why = message(error);
    }
    const isWanted = () => {
      const { playing, follow } = this.state.values;
      return !this.isClosed && epoch === this.epoch && !playing && !(follow && this.session.isLive);
    };
    // The first overlay takes the server a second or more: the picture does not wait for it.
    const overlay = await Promise.race([drawn, later(OVERLAY_MS)]);
    if (isWanted()) {
      this.put(row, picture, overlay, why);
      this.announce(row);
    }
    if (overlay === undefined) {
      const late = await drawn;
      if (isWanted()) this.put(row, picture, late, why);
    }
    picture?.close();
    this.ahead(position, before);
  }

  /** Load what is around a row: at once for steps; after a jump, once no other follows. */
  private ahead(position: number, before: number): void {
    window.clearTimeout(this.loading);
    const load = () => { this.session.ahead(position - AROUND, position + 100); };
    if (before >= 0 && Math.abs(position - before) <= AROUND) load();
    else this.loading = window.setTimeout(load, before < 0 ? OPENED_MS : JUMPED_MS);
  }

  private put(
    row: Row,
    picture: Picture | null,
    drawn: Drawing | null | undefined,
    why: string,
  ): void {
    this.shown = row.i;
    this.isWaiting = !picture && this.session.isLive;
    this.stage.show(row, picture, drawn ?? null, why);
    this.hud.show(row);
    this.companion?.shown(row);
    this.element.dataset.way = this.pictures.way ?? "";
    this.isFirst();
  }

  // A recording in progress

  /** There are more rows, or it has ended. */
  private grew(): void {
    const { isLive, card } = this.session;
    const hasEnded = this.wasLive && !isLive;
    this.wasLive = isLive;
    this.hud.grew();
    if (this.epoch !== this.session.epoch) {
      this.epoch = this.session.epoch;
      this.pictures.refresh();
      this.shown = -1;
      if (this.state.values.playing) this.playOrPause(); // from where it is by now
    }
    if (hasEnded || this.isMissing || (isLive && (card.picture_note || this.pictureNote))) this.sayOfPictures();
    if (hasEnded) {
      this.pictures.refresh();
      this.stage.say("");
    }
    if (this.state.values.playing) return;
    if (this.isWaiting || this.isMissing || (hasEnded && this.state.values.follow)) this.shown = -1;
    this.isMissing = false;
    this.follow();
  }

  /** Show the same row again: there may be more of it. */
  again(): void {
    if (this.state.values.playing) return;
    this.shown = -1;
    this.follow();
  }

  showMoment(moment: Moment): void {
    if (!this.state.values.follow) return;
    this.shown = -1;
    this.stage.showMoment(moment);
    this.stage.say(`live, ${length(Math.max(moment.age_ms, 0) / 1000)} ago`);
    this.element.dataset.way = "moment";
  }

  showFigures(row: Row): void {
    this.hud.show(row);
  }

  async showNewest(i: number, picture: ImageBitmap | null, why: string): Promise<void> {
    const { epoch } = this.session;
    const [row, drawn] = await Promise.all([this.session.row(i), this.session.drawn(i).catch(() => null)]);
    if (!this.state.values.follow || this.isClosed || epoch !== this.session.epoch) return;
    const drawable = picture && {
      draw: (context: CanvasRenderingContext2D, width: number, height: number) => {
        context.drawImage(picture, 0, 0, width, height);
      },
      close: () => undefined,
    };
    this.put(row, drawable, drawn, why);
    this.element.dataset.way = picture ? "server" : "";
    this.state.set({ position: i, frame: row.frame, follow: true });
    this.announce(row);
  }

  // Playing

  private playOrPause(): void {
    this.stop.abort();
    this.stop = new AbortController();
    this.stage.say("");
    if (!this.state.values.playing) {
      this.follow();
      return;
    }
    const { signal } = this.stop;
    const playback = new Playback(this.session, this.state, this.pictures, this, signal);
    void this.play(playback, signal);
  }

  private async play(playback: Playback, signal: AbortSignal): Promise<void> {
    const { position } = this.state.values;
    const isEnd = position >= this.session.n - 1 && this.state.values.speed > 0;
    try {
      await playback.run(isEnd ? 0 : position);
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      this.hud.say(message(error));
      this.state.set({ playing: false });
    }
  }

  // What playing needs of the view

  show(row: Row, picture: Picture | null): void {
    this.put(row, picture, this.session.drawnNow(row.i), picture ? "" : this.why);
    this.state.set({ position: row.i, frame: row.frame });
    this.why = "";
  }

  private why = "";

  isReady(i: number): boolean {
    return this.session.drawnNow(i) !== undefined;
  }

  gap(seconds: number | null): void {
    this.stage.say(seconds === null ? "" : `nothing recorded for ${length(seconds)}`);
  }

  error(_: Row, error: unknown): void {
    this.why = message(error);
  }

  // Actions

  private toggle(): void {
    const { playing, speed } = this.state.values;
    this.state.set({ playing: !playing, speed: playing || speed > 0 ? speed : 1 });
  }

  private goTo(position: number): void {
    const last = Math.max(this.session.n - 1, 0);
    this.state.set({ playing: false, follow: false });
    this.state.go(Math.min(Math.max(position, 0), last));
  }

  private step(by: number): void {
    const { position, follow } = this.state.values;
    // While following, what is shown is newer than the last row that is here.
    this.goTo((follow && this.session.isLive ? this.session.n - 1 : position) + by);
  }

  private async mark(dir: 1 | -1): Promise<void> {
    const { position } = this.state.values;
    const found = await this.session
      .next(position, this.marks.kinds, dir)
      .catch((error: unknown) => {
        if (!isAbort(error)) this.hud.say(message(error));
        return null;
      });
    if (found !== null && found !== position) this.goTo(found);
    else this.say(`no ${this.companion ? "difference" : "mark"} ${dir > 0 ? "after" : "before"} this frame`);
  }

  /** Play forwards or backwards, faster with each press. */
  private shuttle(dir: 1 | -1): void {
    const { playing, speed } = this.state.values;
    const faster = playing && Math.sign(speed) === dir ? Math.min(Math.abs(speed) * 2, 8) : 1;
    this.state.set({ speed: dir * faster, playing: true });
    if (playing) this.playOrPause();
  }

  private speed(by: 1 | -1): void {
    const { speed } = this.state.values;
    const at = SPEEDS.findIndex((other) => other >= Math.abs(speed));
    const next = SPEEDS[Math.min(Math.max(at + by, 0), SPEEDS.length - 1)];
    if (next !== undefined) this.state.set({ speed: next });
  }

  private edge(which: "from" | "to"): void {
    const t = this.session.rowNow(this.state.values.position)?.t;
    if (t === null || t === undefined) return;
    const length = this.session.card.duration_s ?? t;
    const range = { from: 0, to: Math.max(length, t), ...this.state.values.range, [which]: t };
    if (range.from >= range.to) {
      if (which === "from") range.to = Math.max(length, t + 0.001);
      else range.from = 0;
    }
    this.state.set({ range });
  }

  private full(): void {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void this.element.requestFullscreen().catch(() => undefined);
  }

  private shortcuts(): Shortcut[] {
    const add = (keys: string, text: string, run: (event: KeyboardEvent) => void, shown?: string) => ({
      keys: keys === " " ? [" "] : keys.split(" "),
      group: "Playing",
      text,
      run,
      ...(shown ? { shown } : {}),
    });
    const by = (event: KeyboardEvent) => (event.shiftKey ? 10 : 1);
    return [
      add(" ", "play, pause", () => { this.toggle(); }),
      add(", ArrowLeft < ;", "a frame back; with Shift ten", (e) => { this.step(-by(e)); }, ", ←"),
      add(". ArrowRight > :", "a frame on; with Shift ten", (e) => { this.step(by(e)); }, ". →"),
      add("Home", "first frame", () => { this.goTo(0); }),
      add("End", "last frame; of a recording in progress: follow it", () => {
        if (this.session.isLive && !this.companion) this.state.set({ playing: false, follow: true });
        else this.goTo(this.session.n - 1);
      }),
      add("n", `next ${this.marks.names}`, () => void this.mark(1)),
      add("p", this.companion ? "previous frame that differs" : "previous mark", () => void this.mark(-1)),
      add("j", "play backwards; again: faster", () => { this.shuttle(-1); }),
      add("k", "stop", () => { this.state.set({ playing: false }); }),
      add("l", "play; again: faster", () => { this.shuttle(1); }),
      add("ArrowDown", "slower", () => { this.speed(-1); }),
      add("ArrowUp", "faster", () => { this.speed(1); }),
      add("[", "the marked part begins here", () => { this.edge("from"); }),
      add("]", "the marked part ends here", () => { this.edge("to"); }),
      add("\\", "mark nothing", () => { this.state.set({ range: null }); }),
      add("r", "repeat the marked part", () => { this.state.set({ loop: !this.state.values.loop }); }),
      add("+ =", "look nearer", () => { this.stage.zoom(1.5); }, "+"),
      add("-", "look from farther", () => { this.stage.zoom(1 / 1.5); }),
      add("0", "the whole picture", () => { this.stage.whole(); }),
      add("f", "whole screen", () => { this.full(); }),
    ];
  }

  // For screen readers

  private announce(row: Row): void {
    window.clearTimeout(this.announcing);
    this.announcing = window.setTimeout(() => {
      const time = row.t === null ? "" : `, ${clock(row.t)}`;
      const counted = row.n ? plural(row.n, "detection") : "no detections";
      const drops = row.dropped > 0 ? `, ${row.dropped} dropped before` : "";
      slot("announce").textContent = `Frame ${row.frame}${time}, ${counted}${drops}`;
    }, ANNOUNCE_MS);
  }

  private say(text: string): void {
    slot("announce").textContent = text;
    this.stage.say(text);
    window.setTimeout(() => { this.stage.say(""); }, 1500);
  }
}

function later(ms: number): Promise<undefined> {
  return new Promise((resolve) => { window.setTimeout(() => { resolve(undefined); }, ms); });
}
