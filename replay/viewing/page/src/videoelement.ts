// Pictures of a video element: where WebCodecs is missing, as on http from another machine.
//
// The element is never shown: its picture is copied when the browser has said which one it is.

import { Problem, type Row, type Session } from "./data";
import { tolerance, type Picture, type Pictures } from "./pictures";

/** No browser needs longer for a seek in a file that it can play. */
const PATIENCE_MS = 8000;
/** After a seek has ended, a picture that differs is presented within this. */
const SETTLE_MS = 150;
const TRIES = 4;
const OPEN = 3;

export class VideoElementPictures implements Pictures {
  private readonly players = new Map<number, Element>();

  constructor(private readonly session: Session) {}

  async picture(row: Row): Promise<Picture> {
    return this.element(row.video).seek(row);
  }

  /**
   * Let the video play from a row on, at a speed.
   *
   * @param shown Called with the time of each picture, which `draw` copies; false ends it.
   */
  play(
    row: Row,
    speed: number,
    shown: (mediaTime: number, picture: Picture) => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    return this.element(row.video).play(speed, shown, signal);
  }

  prepare(rows: readonly Row[]): void {
    for (const { video } of rows.slice(-1)) this.element(video);
  }

  refresh(): void {
    this.close();
  }

  close(): void {
    for (const player of this.players.values()) player.close();
    this.players.clear();
  }

  private element(k: number): Element {
    let player = this.players.get(k);
    if (!player) {
      player = new Element(this.session.videoAddress(k));
    }
    this.players.delete(k);
    this.players.set(k, player);
    for (const [oldest, other] of this.players) {
      if (this.players.size <= OPEN) break;
      other.close();
      this.players.delete(oldest);
    }
    return player;
  }
}

class Element {
  private readonly video = document.createElement("video");
  /** Time of the picture that the element holds; null while it is not known. */
  private mediaTime: number | null = null;
  private readonly failed: Promise<never>;
  private onPicture: (() => void) | null = null;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(address: string) {
    const { video } = this;
    if (!("requestVideoFrameCallback" in video)) {
      this.failed = Promise.reject(new Problem("this browser does not say which frame it shows"));
      this.failed.catch(() => undefined);
      return;
    }
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    this.failed = new Promise((_, reject) => {
      video.addEventListener("error", () => {
        const detail = video.error?.message.split(":")[0] ?? "";
        reject(new Problem(`this browser does not play the video${detail ? ` (${detail})` : ""}`));
      });
    });
    this.failed.catch(() => undefined);
    video.src = address;
    this.watch();
  }

  /** One after the other: there is one place in the video. */
  seek(row: Row): Promise<Picture> {
    const found = this.turn.then(() => this.seekNow(row));
    this.turn = found.catch(() => undefined);
    return found;
  }

  private async seekNow(row: Row): Promise<Picture> {
    const pts = row.pts_s ?? 0;
    const within = tolerance(row);
    const holds = () => this.mediaTime !== null && Math.abs(this.mediaTime - pts) <= within;
    await Promise.race([this.ready(), this.failed]);
    // The middle of a frame: neighbours are equally far, whatever is rounded.
    let target = pts + (row.duration_s ?? 0.04) / 2;
    for (let tries = 0; tries < TRIES && !holds(); tries++) {
      await this.reach(target, holds);
      // Browsers round where pictures follow one another within a millisecond.
      if (this.mediaTime !== null) target += pts - this.mediaTime;
    }
    if (!holds()) {
      const shown = this.mediaTime === null ? "none" : `that at ${this.mediaTime.toFixed(4)} s`;
      throw new Problem(`of the picture at ${pts.toFixed(4)} s the browser shows ${shown}`);
    }
    return this.copy();
  }

  private ready(): Promise<void> {
    const { video } = this;
    if (video.readyState >= HTMLMediaElement.HAVE_METADATA) return Promise.resolve();
    return new Promise((resolve) => {
      video.addEventListener("loadedmetadata", () => { resolve(); }, { once: true });
    });
  }

  /** Seek, and wait until the browser says that it holds the picture, or another one for good. */
  private async reach(seconds: number, holds: () => boolean): Promise<void> {
    const { video } = this;
    const timers: number[] = [];
    const later = (run: () => void, ms: number) => timers.push(window.setTimeout(run, ms));
    let isDone = false;
    const arrived = new Promise<void>((resolve, reject) => {
      this.onPicture = () => {
        if (isDone || holds()) resolve();
      };
      video.onseeked = () => {
        isDone = true;
        // The picture is presented before this or soon after it; the same one is not presented again.
        later(resolve, SETTLE_MS);
      };
      const giveUp = () => {
        // Pages in the background show nothing, which is no fault.
        if (document.hidden) later(giveUp, PATIENCE_MS);
        else reject(new Problem("the browser does not show the picture that it seeks"));
      };
      later(giveUp, PATIENCE_MS);
    });
    video.currentTime = Math.max(0, Math.min(seconds, video.duration || seconds));
    try {
      await Promise.race([arrived, this.failed]);
    } finally {
      for (const timer of timers) window.clearTimeout(timer);
      this.onPicture = null;
      video.onseeked = null;
    }
  }

  /** Note which picture the element holds, whenever it is another one. */
  private watch(): void {
    this.video.requestVideoFrameCallback((_, { mediaTime }) => {
      this.mediaTime = mediaTime;
      this.onPicture?.();
      this.watch();
    });
  }

  /** The picture that the element holds now. */
  private copy(): Picture {
    const { video } = this;
    return {
      draw: (context, width, height) => {
        context.drawImage(video, 0, 0, width, height);
      },
      close: () => undefined,
    };
  }

  play(
    speed: number,
    shown: (mediaTime: number, picture: Picture) => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const played = this.turn.then(() => this.playNow(speed, shown, signal));
    this.turn = played.catch(() => undefined);
    return played;
  }

  private async playNow(
    speed: number,
    shown: (mediaTime: number, picture: Picture) => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { video } = this;
    video.playbackRate = speed;
    const ended = new Promise<void>((resolve) => {
      this.onPicture = () => {
        if (this.mediaTime !== null && !shown(this.mediaTime, this.copy())) resolve();
      };
      video.onended = () => { resolve(); };
      signal.addEventListener("abort", () => { resolve(); }, { once: true });
    });
    try {
      await video.play();
      if (!signal.aborted) await Promise.race([ended, this.failed]);
    } finally {
      this.onPicture = null;
      video.onended = null;
      video.pause();
    }
  }

  close(): void {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
