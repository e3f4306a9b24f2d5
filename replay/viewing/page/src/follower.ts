// Follows a recording in progress: the camera's picture where the recorder gives it, else the
// newest row that has one.

import { isAbort, Problem, type Row, type Session } from "./data";
import type { Moment } from "./happenings";
import type { State } from "./state";

/** A recorder that gave no picture is asked again after this. */
const AGAIN_MS = 3000;

export interface FollowerView {
  /** Show what the camera sees now. */
  showMoment(moment: Moment): void;
  /** Show the figures of the newest row, below what the camera sees now. */
  showFigures(row: Row): void;
  /** Show a row with its picture; null: none has one, with the reason. */
  showNewest(i: number, picture: ImageBitmap | null, why: string): Promise<void>;
}

export class Follower {
  private abort: AbortController | null = null;
  private isLooking = false;
  private isStale = false;
  /** Whether what the camera sees now is shown. */
  isAtMoment = false;
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly session: Session,
    private readonly state: State,
    private readonly view: FollowerView,
  ) {
    const turn = () => { this.turn(); };
    document.addEventListener("visibilitychange", turn);
    this.ends.push(
      () => { document.removeEventListener("visibilitychange", turn); },
      state.on(["follow"], turn),
      session.on(() => { this.grew(); }),
    );
    this.turn();
  }

  close(): void {
    this.stop();
    for (const end of this.ends) end();
  }

  private turn(): void {
    const isOn = this.state.values.follow && this.session.isLive && !document.hidden;
    if (isOn === (this.abort !== null)) return;
    if (!isOn) {
      this.stop();
      return;
    }
    this.abort = new AbortController();
    void this.watch(this.abort.signal);
    this.grew();
  }

  private stop(): void {
    this.abort?.abort();
    this.abort = null;
    this.isAtMoment = false;
  }

  /** Ask for the camera's pictures, one after the other. */
  private async watch(signal: AbortSignal): Promise<void> {
    let after = 0;
    while (!signal.aborted) {
      try {
        const moment = await this.session.moment(after, signal);
        if (!moment) continue;
        after = moment.captured;
        this.isAtMoment = true;
        this.view.showMoment(moment);
        moment.picture.close();
        await nextRefresh();
      } catch (error) {
        if (isAbort(error)) return;
        this.isAtMoment = false;
        await new Promise((resolve) => window.setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  private grew(): void {
    if (!this.session.isLive) {
      this.turn();
      return;
    }
    this.isStale = true;
    if (!this.isLooking) void this.look();
  }

  private async look(): Promise<void> {
    this.isLooking = true;
    for (let { abort } = this; abort && this.isStale; { abort } = this) {
      this.isStale = false;
      await this.toEnd(abort.signal).catch(() => undefined);
    }
    this.isLooking = false;
  }

  private async toEnd(signal: AbortSignal): Promise<void> {
    const last = this.session.n - 1;
    if (last < 0) return;
    if (this.isAtMoment) {
      const row = await this.session.row(last);
      if (signal.aborted) return;
      this.view.showFigures(row);
      this.state.set({ position: last, frame: row.frame, follow: true });
      return;
    }
    let why = "";
    const { epoch } = this.session;
    const found = await this.session.newestPicture(last, signal).catch((error: unknown) => {
      if (isAbort(error)) throw error; // positions have changed: it is asked again
      why = error instanceof Problem ? error.message : String(error);
      return null;
    });
    const isAtMoment = () => this.isAtMoment; // it may be by now
    const isWanted = !signal.aborted && epoch === this.session.epoch;
    if (isWanted && !isAtMoment()) {
      await this.view.showNewest(found?.i ?? last, found?.picture ?? null, why);
    }
    found?.picture.close();
  }
}

function nextRefresh(): Promise<void> {
  return new Promise((resolve) => {
    requestAnimationFrame(() => { resolve(); });
  });
}
