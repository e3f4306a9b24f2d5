// Pictures of a video element: where WebCodecs is missing, as on http from another machine.
//
// The element is never shown: its picture is copied when the browser has said which one it is.

import { Problem, type Row, type Session } from "./data";
import { tolerance, type Picture, type Pictures } from "./pictures";
import { codecName } from "./words";

/** No browser needs longer for a seek in a file that it can play. */
const PATIENCE_MS = 8000;
/** After a seek has ended, a different picture is presented within this. */
const SETTLE_MS = 150;
const SETTLE_REFRESHES = 4;
const TRIES = 3;
/** Clocks of the page are coarse. */
const MARGIN_MS = 3;
/** Before a picture that no seek reaches, this is played, at this speed. */
const CREEP_S = 0.1;
const CREEP_SPEED = 0.5;
const OPEN = 3;
const ELSEWHERE_S = 0.5;
/** Copies of pictures: one that is shown, one that waits for its time, one that is being made. */
const COPIES = 3;

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
      const codec = this.session.card.videos.find((video) => video.k === k)?.codec;
      player = new Element(this.session.videoAddress(k), codecName(codec));
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
  private readonly canvases = Array.from({ length: COPIES }, () => document.createElement("canvas"));
  /** Time of the picture that the element holds; null while it is not known. */
  private mediaTime: number | null = null;
  /** Whether it may hold a later picture than reported: it was playing. */
  private isAhead = false;
  /** When the last seek began: pictures presented before may be reported late, but are gone. */
  private since = 0;
  private readonly failed: Promise<never>;
  private onPicture: ((metadata: VideoFrameCallbackMetadata) => void) | null = null;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(address: Promise<string>, codec: string) {
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
        reject(new Problem(`this browser does not play the video, which is ${codec}`));
      });
      address.then((found) => { video.src = found; }, reject);
    });
    this.failed.catch(() => undefined);
    this.watch();
  }

  /** One after the other: the video has one position. */
  seek(row: Row): Promise<Picture> {
    const found = this.turn.then(() => this.seekNow(row));
    this.turn = found.catch(() => undefined);
    return found;
  }

  private async seekNow(row: Row): Promise<Picture> {
    const pts = row.pts_s ?? 0;
    const within = tolerance(row);
    const elsewhere = pts > ELSEWHERE_S ? pts - ELSEWHERE_S : pts + ELSEWHERE_S;
    const holds = () => this.mediaTime !== null && Math.abs(this.mediaTime - pts) <= within;
    await Promise.race([this.ready(), this.failed]);
    if (this.isAhead) {
      // A picture that the element may hold already would not be presented again.
      await this.reach(elsewhere, () => false);
      this.isAhead = false;
      this.mediaTime = null;
    }
    // The middle of a frame: neighbours are equally far, whatever is rounded.
    let target = pts + (row.duration_s ?? 0.04) / 2;
    for (let tries = 0; tries < TRIES && !holds(); tries++) {
      await this.reach(target, holds);
      // Browsers round where pictures follow one another within a millisecond; but first ask again.
      if (tries > 0 && this.mediaTime !== null) target += pts - this.mediaTime;
    }
    if (!holds()) {
      // Chromium takes a picture for past by the mean distance of those that it has decoded, which
      // depends on how far it has come: asked from elsewhere, for its very time, it is another one.
      await this.reach(elsewhere, () => false);
      this.mediaTime = null;
      await this.reach(pts, holds);
    }
    if (holds()) return this.copy();
    const step = row.duration_s ?? 0;
    const reached = await this.creep(pts, within, this.video.duration - pts < 1.5 * step);
    if (reached) return reached;
    const shown = this.mediaTime === null ? "none" : `that at ${this.mediaTime.toFixed(4)} s`;
    throw new Problem(`of the picture at ${pts.toFixed(4)} s the browser shows ${shown}`);
  }

  /**
   * Play slowly to a picture that no seek reaches. In videos with B-frames, Chromium takes a later
   * key frame for the last pictures before it.
   */
  private async creep(pts: number, within: number, isLast: boolean): Promise<Picture | null> {
    const { video } = this;
    await this.reach(pts - CREEP_S, () => false);
    if (this.mediaTime === null || this.mediaTime > pts) return null;
    const copies = new Copies(video);
    let found: Picture | null = null;
    let timer = 0;
    const over = new Promise<void>((resolve) => {
      this.onPicture = (metadata) => {
        const sure = copies.next(metadata);
        if (sure && Math.abs(sure.mediaTime - pts) <= within) found = sure.picture;
        if (!found && metadata.mediaTime <= pts + within) return;
        this.onPicture = null; // the copy stays as it is
        resolve();
      };
      // No picture follows the last one, which is then held for good.
      video.onended = () => {
        if (isLast) found = this.copy();
        resolve();
      };
      timer = window.setTimeout(resolve, PATIENCE_MS);
    });
    video.playbackRate = CREEP_SPEED;
    try {
      this.isAhead = true;
      await video.play();
      await Promise.race([over, this.failed]);
      return found;
    } finally {
      window.clearTimeout(timer);
      this.onPicture = null;
      video.onended = null;
      video.pause();
    }
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
      // Before the seek has ended, pictures may be from where the element was.
      this.onPicture = () => {
        if (isDone) resolve();
      };
      video.onseeked = () => {
        isDone = true;
        if (holds()) resolve();
        // The picture is presented before this or soon after it; the same one is not presented again.
        later(() => { afterRefreshes(SETTLE_REFRESHES, resolve); }, SETTLE_MS);
      };
      const giveUp = () => {
        // Pages in the background show nothing, which is not an error.
        if (document.hidden) later(giveUp, PATIENCE_MS);
        else reject(new Problem("the browser does not show the picture that it seeks"));
      };
      later(giveUp, PATIENCE_MS);
    });
    this.since = performance.now();
    video.currentTime = Math.max(0, Math.min(seconds, video.duration || seconds));
    try {
      await Promise.race([arrived, this.failed]);
    } finally {
      for (const timer of timers) window.clearTimeout(timer);
      this.onPicture = null;
      video.onseeked = null;
    }
  }

  /** Note which picture the element holds, whenever it changes. */
  private watch(): void {
    this.video.requestVideoFrameCallback((_, metadata) => {
      if (metadata.presentationTime >= this.since) {
        this.mediaTime = metadata.mediaTime;
        this.onPicture?.(metadata);
      }
      this.watch();
    });
  }

  /** The picture that the element holds now, copied at once: it may change at any time. */
  private copy(): Picture {
    const canvas = this.canvases.shift() ?? document.createElement("canvas");
    this.canvases.push(canvas);
    return copyOf(this.video, canvas);
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
    const copies = new Copies(video);
    video.playbackRate = speed;
    const ended = new Promise<void>((resolve) => {
      this.onPicture = (metadata) => {
        const sure = copies.next(metadata);
        if (sure && !shown(sure.mediaTime, sure.picture)) resolve();
      };
      video.onended = () => { resolve(); };
      signal.addEventListener("abort", () => { resolve(); }, { once: true });
    });
    try {
      this.isAhead = true;
      await video.play();
      // It is not certain which picture is the last: it is found by seeking.
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

/** Browsers say which picture is presented when they refresh the screen, however late that is. */
function afterRefreshes(count: number, run: () => void): void {
  if (count === 0) run();
  else requestAnimationFrame(() => { afterRefreshes(count - 1, run); });
}

function copyOf(video: HTMLVideoElement, canvas: HTMLCanvasElement): Picture {
  const { videoWidth, videoHeight } = video;
  if (canvas.width !== videoWidth || canvas.height !== videoHeight) {
    [canvas.width, canvas.height] = [videoWidth, videoHeight];
  }
  canvas.getContext("2d")?.drawImage(video, 0, 0, videoWidth, videoHeight);
  return {
    draw: (context, width, height) => {
      context.drawImage(canvas, 0, 0, width, height);
    },
    close: () => undefined,
  };
}

interface Copied {
  mediaTime: number;
  picture: Picture;
}

/**
 * Copies of a playing video's pictures, each certain to be the right one.
 *
 * The page hears of a picture a little later than the element has it. Meanwhile the next one may
 * have come, and that would be copied. So a copy waits until the next picture has said when it was
 * presented: after the copy was made, or before.
 */
class Copies {
  private readonly canvases: [HTMLCanvasElement, HTMLCanvasElement] = [
    document.createElement("canvas"),
    document.createElement("canvas"),
  ];
  private waiting: (Copied & { count: number; at: number }) | null = null;

  constructor(private readonly video: HTMLVideoElement) {}

  /** Copy a picture; return the one before it, if its copy is right. */
  next(metadata: VideoFrameCallbackMetadata): Copied | null {
    const sure = this.checked(metadata);
    this.canvases.reverse();
    const [canvas] = this.canvases;
    const picture = copyOf(this.video, canvas);
    const { mediaTime, presentedFrames } = metadata;
    this.waiting = { mediaTime, count: presentedFrames, at: performance.now(), picture };
    return sure;
  }

  /** The copy that waits, unless this picture may have come before it was made. */
  private checked(metadata: VideoFrameCallbackMetadata): Copied | null {
    const { waiting } = this;
    if (!waiting) return null;
    const isNext = metadata.presentedFrames === waiting.count + 1;
    return isNext && metadata.presentationTime > waiting.at + MARGIN_MS ? waiting : null;
  }
}
