// The pictures of a recording, in whatever way this browser can get them.

import { isAbort, message, Problem, type Row, type Session } from "./data";
import { ServerPictures } from "./serverpictures";
import type { Decode } from "./state";
import { VideoElementPictures } from "./videoelement";
import { WebCodecsPictures } from "./webcodecs";

/** The picture of one row. The caller draws it and closes it. */
export interface Picture {
  draw(context: CanvasRenderingContext2D, width: number, height: number): void;
  close(): void;
}

/** One way to get pictures. Rows that follow one another are quick, others need a seek. */
export interface Pictures {
  /** The picture of exactly this row, or an error: never another row's. */
  picture(row: Row): Promise<Picture>;
  /** Rows whose pictures will be asked for next. */
  prepare(rows: readonly Row[]): void;
  /** Reopen files that have grown. */
  refresh(): void;
  close(): void;
}

export type Way = Exclude<Decode, "auto">;

const NAMES: Record<Way, string> = {
  webcodecs: "WebCodecs",
  video: "the browser's video player",
  server: "the server",
};

/** The newest rows of a recording in progress. */
const NEW = 150;

/** How far a browser's stamp may be from the recorded one: it counts whole microseconds. */
export function tolerance(row: Row): number {
  const duration = row.duration_s ?? 0;
  return duration > 0 ? Math.min(0.00002, duration * 0.4) : 0.00002;
}

/** Takes the best way for each video, and the next one when it fails. */
export class BestPictures implements Pictures {
  private readonly ways: Way[];
  private readonly made = new Map<Way, Pictures>();
  /** For each video, the index of the way used. */
  private readonly chosen = new Map<number, number>();
  /** Reasons why the server has no picture either. */
  private readonly missing = new Set<string>();
  private said = "";
  /** How many rows there were when the files were opened last. */
  private known: number;
  /** How often the files were opened again. */
  private openings = 0;
  /** Way of the last picture. */
  way: Way | null = null;

  constructor(
    private readonly session: Session,
    decode: Decode,
    private readonly say: (note: string) => void,
  ) {
    const { hasRanges, hasServer } = session.source;
    this.ways = decode === "auto" ? ["webcodecs", "video", "server"] : [decode];
    this.known = session.n;
    if (!hasServer) this.ways = this.ways.filter((way) => way !== "server");
    if (decode === "auto" && !(hasRanges && WebCodecsPictures.isAvailable())) this.ways.shift();
  }

  /** The way of this row's video, if it is the video element, which plays by itself. */
  playsItself(row: Row): VideoElementPictures | null {
    if (this.wayOf(row) !== "video") return null;
    const pictures = this.get("video");
    return pictures instanceof VideoElementPictures ? pictures : null;
  }

  async picture(row: Row): Promise<Picture> {
    if (this.session.isLive) this.missing.clear(); // it may be written by now
    if (row.video < 0 && this.missing.has(row.state)) throw new Problem(row.state);
    for (;;) {
      const way = this.wayOf(row);
      if (way !== "server" && row.i >= this.known) this.reopen();
      const { openings } = this;
      try {
        const picture = await this.get(way).picture(row);
        this.way = way;
        if (row.video < 0 && row.state) this.sayServer(row.state);
        return picture;
      } catch (error) {
        if (isAbort(error)) throw error;
        if (openings !== this.openings) continue; // of a file that was closed meanwhile
        if (row.video < 0 && row.state) {
          this.missing.add(row.state);
          throw new Problem(row.state);
        }
        if (!this.fallBack(row, way, error)) throw error;
      }
    }
  }

  prepare(rows: readonly Row[]): void {
    const there = rows.filter((row) => row.video >= 0 || !this.missing.has(row.state));
    for (const way of new Set(there.map((row) => this.wayOf(row)))) {
      this.get(way).prepare(there.filter((row) => this.wayOf(row) === way));
    }
  }

  refresh(): void {
    this.missing.clear();
    this.chosen.clear();
    this.reopen();
  }

  private reopen(): void {
    this.known = this.session.n;
    this.openings++;
    for (const pictures of this.made.values()) pictures.refresh();
  }

  close(): void {
    for (const pictures of this.made.values()) pictures.close();
    this.made.clear();
  }

  private wayOf(row: Row): Way {
    if (row.video < 0 || row.pts_s === null) return "server";
    // The server reads a file that grows as it is; a browser would have to open it again.
    if (this.session.isLive && row.i >= this.session.n - NEW) return "server";
    return this.ways[this.chosen.get(row.video) ?? 0] ?? "server";
  }

  /** Take the next way for the row's video; return whether there is one. */
  private fallBack(row: Row, way: Way, error: unknown): boolean {
    const at = this.ways.indexOf(way);
    const next = this.ways[at + 1];
    if (row.video < 0 || at < 0 || !next) return false;
    if (this.wayOf(row) === way) {
      this.chosen.set(row.video, at + 1);
      const reason = message(error);
      this.say(`Pictures come from ${NAMES[next]}: ${reason}`);
    }
    return true;
  }

  private sayServer(reason: string): void {
    if (reason === this.said) return;
    this.said = reason;
    this.say(`Pictures come from the server: ${reason}`);
  }

  private get(way: Way): Pictures {
    let pictures = this.made.get(way);
    if (!pictures) {
      if (way === "webcodecs") pictures = new WebCodecsPictures(this.session);
      else if (way === "video") pictures = new VideoElementPictures(this.session);
      else pictures = new ServerPictures(this.session);
      this.made.set(way, pictures);
    }
    return pictures;
  }
}
