// Pictures of a video element: where WebCodecs is missing, as on http from another machine.
//
// The element is never shown: its picture is copied when the browser has said which one it is.

import { Problem, type Row, type Session } from "./data";
import { tolerance, type Picture, type Pictures } from "./pictures";

/** No browser needs longer for a seek in a file that it can play. */
const PATIENCE_MS = 8000;
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
  private failed: Promise<never>;
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
    await Promise.race([this.ready(), this.failed]);
    if (this.mediaTime === null || Math.abs(this.mediaTime - pts) > within) {
      // The middle of a frame: neighbours are equally far, whatever is rounded.
      await this.reach(pts + (row.duration_s ?? 0.04) / 2);
    }
    if (this.mediaTime === null || Math.abs(this.mediaTime - pts) > within) {
      throw new Problem(
        `the browser shows the picture at ${(this.mediaTime ?? NaN).toFixed(3)} s ` +
          `for that at ${pts.toFixed(3)} s`,
      );
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

  /** Seek, and wait until the browser says which picture it holds. */
  private async reach(seconds: number): Promise<void> {
    const { video } = this;
    this.mediaTime = null;
    let request = 0;
    let timer = 0;
    const shown = new Promise<void>((resolve, reject) => {
      request = video.requestVideoFrameCallback((_, { mediaTime }) => {
        this.mediaTime = mediaTime;
        resolve();
      });
      const giveUp = () => {
        // Pages in the background show nothing, which is no fault.
        if (document.hidden) timer = window.setTimeout(giveUp, PATIENCE_MS);
        else reject(new Problem("the browser does not show the picture that it seeks"));
      };
      timer = window.setTimeout(giveUp, PATIENCE_MS);
    });
    video.currentTime = Math.min(seconds, video.duration || seconds);
    try {
      await Promise.race([shown, this.failed]);
    } finally {
      window.clearTimeout(timer);
      video.cancelVideoFrameCallback(request);
    }
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
    let request = 0;
    const ended = new Promise<void>((resolve) => {
      const next = () => {
        request = video.requestVideoFrameCallback((_, { mediaTime }) => {
          this.mediaTime = mediaTime;
          if (shown(mediaTime, this.copy())) next();
          else resolve();
        });
      };
      next();
      video.addEventListener("ended", () => { resolve(); }, { once: true });
      signal.addEventListener("abort", () => { resolve(); }, { once: true });
    });
    try {
      await video.play();
      if (!signal.aborted) await Promise.race([ended, this.failed]);
    } finally {
      video.cancelVideoFrameCallback(request);
      video.pause();
      // It may have gone on by a picture.
      this.mediaTime = null;
    }
  }

  close(): void {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
