// Playing: which row comes when, at the recorded pace.

import { isAbort, type Row, type Session } from "./data";
import { tolerance, type BestPictures, type Picture } from "./pictures";
import type { State } from "./state";

/** A longer step is a gap: it is shown as such, and shortened to this on request. */
export const GAP_S = 1;
/** Longer steps of the source's stamps say nothing about its pace. */
const LONGEST_STEP_S = 60;
/** Playing that is later than this skips rows. */
const LATE_MS = 100;
/** Playing that is later than this was held up, as by a page in the background. */
const HELD_UP_MS = 1000;
/** Speeds at which browsers let a video play by itself. */
const OWN_SPEEDS = { from: 0.25, to: 4 };

/** Seconds from one row to the next: by the source's stamps, or by the times of capture. */
export function stepOf(before: Row, row: Row): number {
  if (before.media_s !== null && row.media_s !== null) {
    const step = row.media_s - before.media_s;
    if (step > 0 && step <= LONGEST_STEP_S) return step;
  }
  const step = (row.t ?? 0) - (before.t ?? 0);
  return step > 0 ? step : (before.duration_s ?? 0.04);
}

export interface PlaybackView {
  /** Draw a picture and its overlay, and make its row the one of the page. */
  show(row: Row, picture: Picture | null): Promise<void> | void;
  /** Whether the overlay of a row is here, so that `show` draws at once. */
  isReady(i: number): boolean;
  /** The picture stays for these seconds, because nothing was recorded. */
  gap(seconds: number | null): void;
  error(row: Row, error: unknown): void;
}

export class Playback {
  /** Rows skipped since playing began, as it was too slow for them. */
  skipped = 0;
  private due = 0;

  constructor(
    private readonly session: Session,
    private readonly state: State,
    private readonly pictures: BestPictures,
    private readonly view: PlaybackView,
    private readonly signal: AbortSignal,
  ) {}

  /** Play from a row until the end, or until the signal. */
  async run(start: number): Promise<void> {
    let row = await this.session.row(start);
    this.due = performance.now();
    while (!this.signal.aborted) {
      this.session.ahead(row.i, row.i + 150);
      const next = await this.after(row);
      if (!next) break;
      if (next.i === row.i) return;
      const own = next.i === row.i + 1 ? await this.playItself(row, next) : null;
      if (own) row = own;
      else row = await this.step(row, next);
    }
    if (!this.signal.aborted) this.state.set({ playing: false });
  }

  private get speed(): number {
    return this.state.values.speed;
  }

  /** The row after `row`: the next, or the first of what is repeated; null: the end. */
  private async after(row: Row): Promise<Row | null> {
    const { range, loop } = this.state.values;
    const dir = this.speed < 0 ? -1 : 1;
    const i = row.i + dir;
    const next = i >= 0 && i < this.session.n ? await this.session.row(i) : null;
    const t = next?.t ?? row.t ?? 0;
    const isInside = (seconds: number) =>
      !range || (seconds >= range.from - 1e-6 && seconds <= range.to + 1e-6);
    // Playing that began beside the marked part goes through it, and leaves it only to repeat it.
    if (next && (isInside(t) || !isInside(row.t ?? 0))) return next;
    if (!loop) return range && next && !isInside(t) ? next : null;
    const first = dir > 0 ? (range?.from ?? null) : (range?.to ?? null);
    if (first === null) return this.session.row(dir > 0 ? 0 : this.session.n - 1);
    return this.session.row(await this.session.at({ t: first }));
  }

  /** Wait until the next row is due, and show it; when late, a later one. */
  private async step(row: Row, next: Row): Promise<Row> {
    this.due += this.wait(row, next);
    [row, next] = await this.skip(row, next);
    const dir = this.speed < 0 ? -1 : 1;
    this.pictures.prepare(this.rowsFrom(next.i, dir));
    const picture = await this.pictures.picture(next).catch((error: unknown) => {
      if (!isAbort(error) && !this.signal.aborted) this.view.error(next, error);
      return null;
    });
    try {
      if (!this.view.isReady(next.i)) await this.session.drawn(next.i).catch(() => undefined);
      const gap = Math.abs(next.i - row.i) === 1 ? Math.abs(stepOf(...ordered(row, next))) : 0;
      if (gap > GAP_S) this.view.gap(gap);
      await this.until(this.due);
      if (gap > GAP_S) this.view.gap(null);
      if (!this.signal.aborted) await this.view.show(next, picture);
    } finally {
      picture?.close();
    }
    return next;
  }

  /** Milliseconds that a row is shown before the next one comes. */
  private wait(row: Row, next: Row): number {
    if (Math.abs(next.i - row.i) !== 1) return 400; // what is repeated begins again
    const step = stepOf(...ordered(row, next));
    const shown = this.state.values.shorten ? Math.min(step, GAP_S) : step;
    return (shown * 1000) / Math.abs(this.speed);
  }

  private async skip(row: Row, next: Row): Promise<[Row, Row]> {
    const now = performance.now();
    if (now - this.due > HELD_UP_MS) {
      this.due = now;
      return [row, next];
    }
    const allowed = Math.abs(this.speed) > 1 ? 0 : LATE_MS;
    while (now - this.due > allowed) {
      const later = await this.after(next);
      if (!later || Math.abs(later.i - next.i) !== 1) break;
      const wait = this.wait(next, later);
      if (this.due + wait > now) break;
      this.due += wait;
      if (Math.abs(this.speed) <= 1) this.skipped += 1;
      [row, next] = [next, later];
    }
    return [row, next];
  }

  private rowsFrom(i: number, dir: 1 | -1): Row[] {
    const rows: Row[] = [];
    for (let j = 0; j < 24; j++) {
      const row = this.session.rowNow(i + j * dir);
      if (row) rows.push(row);
    }
    return rows;
  }

  private until(due: number): Promise<void> {
    return new Promise((resolve) => {
      const look = (now: number) => {
        // The picture is on the screen at the next refresh.
        if (this.signal.aborted || now + 4 >= due) resolve();
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    });
  }

  /** Let the video element play while its pace is that of the rows; return the last row shown. */
  private async playItself(row: Row, next: Row): Promise<Row | null> {
    const element = this.pictures.playsItself(row);
    if (!element || !this.isSteady(row, next)) return null;
    if (this.speed < OWN_SPEEDS.from || this.speed > OWN_SPEEDS.to) return null;
    const stop = new AbortController();
    const signal = AbortSignal.any([this.signal, stop.signal]);
    const { speed } = this;
    const endTime = this.state.values.range?.to ?? Infinity;
    let last = row;
    try {
      await element.picture(row); // there it begins
    } catch {
      return null; // asking for the next picture takes another way
    }
    await element.play(
      row,
      speed,
      (mediaTime, picture) => {
        if (signal.aborted || this.speed !== speed) return false;
        const shown = this.rowAt(last, mediaTime);
        if (shown === "later") return true; // a picture that was not recorded as a row
        if (shown === "unknown" || !this.view.isReady(shown.i)) return false;
        if (shown.i === last.i) return true;
        if (!this.isSteadyBetween(last.i, shown.i)) return false;
        this.skipped += shown.i - last.i - 1;
        void this.view.show(shown, picture);
        last = shown;
        this.session.ahead(last.i, last.i + 150);
        const following = this.session.rowNow(last.i + 1);
        return !!following && (following.t ?? 0) <= endTime && this.isSteady(last, following);
      },
      signal,
    ).catch(() => undefined);
    this.due = performance.now();
    return last.i === row.i ? null : last;
  }

  /** Whether the video takes as long from one row to the next as playing should. */
  private isSteady(row: Row, next: Row): boolean {
    if (next.video !== row.video || next.video < 0) return false;
    if (row.pts_s === null || next.pts_s === null) return false;
    const step = stepOf(row, next);
    return step <= GAP_S && Math.abs(next.pts_s - row.pts_s - step) <= 0.02 + step * 0.1;
  }

  private isSteadyBetween(from: number, to: number): boolean {
    for (let i = from; i < to; i++) {
      const [row, next] = [this.session.rowNow(i), this.session.rowNow(i + 1)];
      if (!row || !next || !this.isSteady(row, next)) return false;
    }
    return true;
  }

  /** The row whose picture the element shows. */
  private rowAt(last: Row, mediaTime: number): Row | "later" | "unknown" {
    for (let i = last.i; i < last.i + 400; i++) {
      const row = this.session.rowNow(i);
      if (!row) return "unknown";
      if (row.video !== last.video || row.pts_s === null) continue;
      const within = tolerance(row);
      if (Math.abs(row.pts_s - mediaTime) <= within) return row;
      if (row.pts_s > mediaTime + within) return "later";
    }
    return "unknown";
  }
}

function ordered(a: Row, b: Row): [Row, Row] {
  return a.i < b.i ? [a, b] : [b, a];
}
