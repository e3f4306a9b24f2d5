// What the server says, typed; only this file knows how it is loaded.
import type { Drawing, OverlayAnswer } from "./drawing";

export interface SessionFacts {
  s: string;
  path: string;
  state: string;
  started_at: string | null;
  duration_s: number | null;
  frames: number | null;
  detections: number | null;
  fps: number | null;
  dropped: number | null;
  model: string | null;
  source: string | null;
  bytes: number | null;
  video_bytes: number | null;
  problem: string | null;
}

export interface VideoFacts {
  k: number;
  url: string;
  mime: string;
  codec: string;
  bytes: number;
  width: number;
  height: number;
  note: string;
}

export interface Card {
  s: string;
  /** As a command takes it. */
  path: string;
  name: string;
  n: number;
  first_frame: number | null;
  last_frame: number | null;
  duration_s: number | null;
  state: string;
  model: string | null;
  device: string | null;
  source: string | null;
  width: number;
  height: number;
  pixel_aspect: number | null;
  facts: [string, string][];
  caveats: string[];
  videos: VideoFacts[];
  picture_note: string;
  stages: string[];
  signals: { name: string }[];
  labels: { label: string; count: number; color: [number, number, number] }[];
  labels_total: number;
  has: Record<"tracks" | "masks" | "landmarks" | "angles" | "zones" | "alerts" | "targets", boolean>;
  overlay: Record<string, unknown>;
  version: string | number;
}

interface RowsAnswer {
  from: number;
  frame: number[];
  t: (number | null)[];
  media_s: (number | null)[];
  video: number[];
  pts_s: (number | null)[];
  duration_s: (number | null)[];
  state: string[];
  ms: Record<string, (number | null)[]>;
  dropped: (number | null)[];
  skipped: (number | null)[];
  n: number[];
}

/** One row: a frame that was recorded, and which picture of which video belongs to it. */
export interface Row {
  i: number;
  frame: number;
  t: number | null;
  media_s: number | null;
  /** Which video has its picture; -1: none. */
  video: number;
  /** The picture's exact presentation time in that video. */
  pts_s: number | null;
  duration_s: number | null;
  /** Why there is no picture. */
  state: string;
  ms: Record<string, number | null>;
  dropped: number;
  skipped: number;
  /** How many detections. */
  n: number;
}

export interface SeriesAnswer {
  from: number;
  to: number;
  step: number;
  /** The windows that the rate is of. */
  fps_window_s?: number;
  /** From when to when nothing was captured; null: rows are dense, and pixels without one are a gap. */
  gaps?: [number, number][] | null;
  series: Record<
    string,
    { min: (number | null)[]; max: (number | null)[]; mean: (number | null)[] }
  >;
}

export interface Mark {
  t: number;
  i: number;
  count: number;
  /** What the first one is. */
  text?: string;
  /** When it ended, where it took time. */
  to?: number;
  /** Of drops: where frames were lost. */
  place?: string;
}

export type MarkKind = "differences" | "drops" | "gaps" | "late" | "events" | "alerts";
export type MarksAnswer = Partial<Record<MarkKind, Mark[]>>;

export type Cell = string | number | boolean | null | Cell[] | { [name: string]: Cell };

export interface SqlAnswer {
  columns: { name: string; type: string; numeric: boolean }[];
  rows: Cell[][];
  /** Of answers with frames: where and when those of each row are; null: not in this recording. */
  places?: ([number, number | null] | null)[];
  truncated: boolean;
  elapsed_ms: number;
  frame_column: number | null;
  error?: string;
}

export interface Matches {
  from: number;
  to: number;
  keep: Record<string, number[]>;
}

export interface Question {
  name: string;
  text: string;
  sql: string;
  /** The view or macro that it asks. */
  definition: string;
}

export interface Why {
  findings: string[];
  caveats: string[];
  tables: { title: string; columns: string[]; numeric: boolean[]; rows: string[][] }[];
}

export type Query = Record<string, string | number | null | undefined>;

/** Something that cannot be shown, said in one line. */
export class Problem extends Error {}

/** Where the data comes from: a server, or the files of an export. */
export interface Source {
  /** Whether scripts can read parts of videos. */
  readonly hasRanges: boolean;
  /** Whether there is a server: for statements, and for pictures that a browser cannot decode. */
  readonly hasServer: boolean;
  /** What is missing without a server, in a line. */
  readonly note: string;
  get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T>;
  /** The address of something that the browser loads itself: a picture, a video. */
  address(path: string, query: Query): string;
  /** A picture as the bytes of a file. */
  picture(path: string, query: Query, signal: AbortSignal): Promise<Blob>;
  /** The only recording, which needs no list; null: there may be others. */
  single(): Promise<string | null>;
}

export class Server implements Source {
  readonly hasRanges = true;
  readonly hasServer = true;
  readonly note = "";

  single(): Promise<null> {
    return Promise.resolve(null);
  }

  address(path: string, query: Query): string {
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
    }
    return url.href;
  }

  async get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
    let response: Response;
    try {
      response = await fetch(this.address(path, query), {
        credentials: "same-origin",
        ...(signal ? { signal } : {}),
      });
    } catch (error) {
      if (isAbort(error)) throw error;
      throw new Problem("dgrec view does not answer; is it still running?");
    }
    const body: unknown = await response.json().catch(() => null);
    if (!response.ok) {
      const said = (body as { error?: unknown } | null)?.error;
      throw new Problem(typeof said === "string" ? said : `the server answered ${response.status}`);
    }
    return body as T;
  }

  async picture(path: string, query: Query, signal: AbortSignal): Promise<Blob> {
    const response = await fetch(this.address(path, query), { credentials: "same-origin", signal });
    if (!response.ok) {
      const body = (await response.json().catch(() => null)) as { error?: string } | null;
      throw new Problem(body?.error ?? `no picture: the server answered ${response.status}`);
    }
    return response.blob();
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** Parts of a long list, loaded as they are needed; those not used for longest are removed. */
export class Chunks<T> {
  private readonly parts = new Map<number, T[]>();
  private readonly pending = new Map<number, Promise<T[]>>();

  constructor(
    private readonly size: number,
    private readonly kept: number,
    private readonly fetchPart: (from: number, to: number) => Promise<T[]>,
  ) {}

  get(i: number): T | undefined {
    return this.parts.get(Math.floor(i / this.size))?.[i % this.size];
  }

  async load(i: number): Promise<T | undefined> {
    const part = Math.floor(i / this.size);
    const known = this.parts.get(part);
    if (known && i % this.size < known.length) {
      this.parts.delete(part); // used last, removed last
      this.parts.set(part, known);
      return known[i % this.size];
    }
    const values = await (this.pending.get(part) ?? this.begin(part));
    return values[i % this.size];
  }

  private begin(part: number): Promise<T[]> {
    const from = part * this.size;
    const promise = this.fetchPart(from, from + this.size).then((values) => {
      this.parts.set(part, values);
      for (const oldest of this.parts.keys()) {
        if (this.parts.size <= this.kept) break;
        this.parts.delete(oldest);
      }
      return values;
    });
    this.pending.set(part, promise);
    const done = () => this.pending.delete(part);
    promise.then(done, done);
    return promise;
  }

  clear(): void {
    this.parts.clear();
  }

  /** Forget the part that was not full: a recording in progress has more rows now. */
  grew(from: number): void {
    this.parts.delete(Math.floor(from / this.size));
  }
}

const ROWS = 500;
/** Few: a jump waits for all of them, and each takes about a millisecond. */
const DRAWN = 25;

/**
 * One recording: its card, and everything else when it is asked for.
 *
 * The card of a recording that was just opened lacks labels, stages and signals, until `refresh`:
 * they are counted, and pictures do not need them.
 */
export class Session {
  private readonly abort = new AbortController();
  private readonly rowParts = new Chunks<Row>(ROWS, 40, (from, to) => this.fetchRows(from, to));
  private readonly drawnParts = new Chunks<Drawing>(DRAWN, 48, (from, to) =>
    this.fetchDrawn(from, to),
  );

  protected constructor(
    readonly source: Source,
    public card: Card,
  ) {}

  static async open(source: Source, s: string, signal?: AbortSignal): Promise<Session> {
    return new Session(source, await source.get<Card>("api/card", { s, brief: 1 }, signal));
  }

  /** Everything that is still being loaded is cancelled. */
  close(): void {
    this.abort.abort();
  }

  /** Stages of the recording beside this one, whose frames are paired with its own. */
  get otherStages(): string[] {
    return [];
  }

  /** The durations of a row, by the names of lines. */
  measured(row: Row): Record<string, number | null> {
    return row.ms;
  }

  get n(): number {
    return this.card.n;
  }

  /** Read the whole card; again, of a recording in progress. */
  async refresh(): Promise<void> {
    const before = this.card.n;
    this.card = await this.get<Card>("api/card", {});
    if (this.card.n === before) return;
    this.rowParts.grew(before);
    this.drawnParts.grew(before);
  }

  /** The row at a position, if it is here already. */
  rowNow(i: number): Row | undefined {
    return this.rowParts.get(i);
  }

  async row(i: number): Promise<Row> {
    if (!this.n) throw new Problem("nothing was recorded: there are no frames");
    const row = await this.rowParts.load(i);
    if (!row) throw new Problem(`there is no row ${i}`);
    return row;
  }

  /** What to draw over the picture at a position, if it is here already. */
  drawnNow(i: number): Drawing | undefined {
    return this.drawnParts.get(i);
  }

  async drawn(i: number): Promise<Drawing> {
    const frame = await this.drawnParts.load(i);
    if (!frame) throw new Problem(`there is no row ${i}`);
    return frame;
  }

  /** Load rows and overlays that playing will need soon. */
  ahead(from: number, to: number): void {
    for (let i = Math.max(0, from); i < Math.min(to, this.n); i += DRAWN) {
      void this.rowParts.load(i).catch(() => undefined);
      void this.drawnParts.load(i).catch(() => undefined);
    }
  }

  details(i: number, signal?: AbortSignal): Promise<Record<string, Cell>> {
    return this.get("api/row", { i }, signal);
  }

  async at(where: { t?: number; frame?: number; media?: number }): Promise<number> {
    return (await this.get<{ i: number }>("api/at", where)).i;
  }

  /** The position of a frame: mostly as many rows after the first. */
  async positionOf(frame: number): Promise<number> {
    const guess = frame - (this.card.first_frame ?? 0);
    if (guess >= 0 && guess < this.n) {
      const row = await this.row(guess).catch(() => null);
      if (row?.frame === frame) return guess;
    }
    return this.at({ frame });
  }

  series(
    names: string[],
    from: number | null,
    to: number | null,
    width: number,
    signal?: AbortSignal,
  ): Promise<SeriesAnswer> {
    return this.get("api/series", { names: names.map(encodeURIComponent).join(","), from, to, width }, signal);
  }

  marks(
    from: number | null,
    to: number | null,
    width: number,
    signal?: AbortSignal,
  ): Promise<MarksAnswer> {
    return this.get("api/marks", { from, to, width }, signal);
  }

  async next(i: number, kind: string, dir: 1 | -1): Promise<number | null> {
    return (await this.get<{ i: number | null }>("api/next", { i, kind, dir })).i;
  }

  sql(q: string, limit: number, signal?: AbortSignal): Promise<SqlAnswer> {
    return this.get("api/sql", { q, limit }, signal);
  }

  matches(q: string, from: number, to: number, signal?: AbortSignal): Promise<Matches> {
    return this.get("api/matches", { q, from, to }, signal);
  }

  why(signal?: AbortSignal): Promise<Why> {
    return this.get("api/why", {}, signal);
  }

  videoAddress(k: number): string {
    return this.source.address("video", { s: this.card.s, k });
  }

  /** The picture of a row, decoded by the server, as an address and as pixels. */
  pictureAddress(i: number, w?: number): string {
    return this.source.address("api/picture", { s: this.card.s, i, w });
  }

  async picture(i: number, w: number | undefined, signal: AbortSignal): Promise<ImageBitmap> {
    const both = AbortSignal.any([signal, this.abort.signal]);
    const query = { s: this.card.s, i, w };
    return createImageBitmap(await this.source.picture("api/picture", query, both));
  }

  protected get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
    const both = signal ? AbortSignal.any([signal, this.abort.signal]) : this.abort.signal;
    return this.source.get<T>(path, { s: this.card.s, ...query }, both);
  }

  private async fetchRows(from: number, to: number): Promise<Row[]> {
    const a = await this.get<RowsAnswer>("api/rows", { from, to: Math.min(to, this.n) });
    const stages = Object.entries(a.ms);
    return a.frame.map((frame, j) => ({
      i: a.from + j,
      frame,
      t: a.t[j] ?? null,
      media_s: a.media_s[j] ?? null,
      video: a.video[j] ?? -1,
      pts_s: a.pts_s[j] ?? null,
      duration_s: a.duration_s[j] ?? null,
      state: a.state[j] ?? "",
      ms: Object.fromEntries(stages.map(([name, values]) => [name, values[j] ?? null])),
      dropped: a.dropped[j] ?? 0,
      skipped: a.skipped[j] ?? 0,
      n: a.n[j] ?? 0,
    }));
  }

  private async fetchDrawn(from: number, to: number): Promise<Drawing[]> {
    const end = Math.min(to, this.n);
    const found: Drawing[] = [];
    // An answer ends early where its frames are large.
    while (from + found.length < end) {
      const next = from + found.length;
      const a = await this.get<OverlayAnswer>("api/overlay", { from: next, to: end });
      if (!a.frames.length) break;
      found.push(...a.frames.map((frame) => ({ colors: a.colors, labels: a.labels, frame })));
    }
    return found;
  }
}

export async function sessions(
  source: Source,
  text: string,
  where: string,
  signal?: AbortSignal,
): Promise<SessionFacts[]> {
  const query = { q: text || null, where: where || null };
  return (await source.get<{ sessions: SessionFacts[] }>("api/sessions", query, signal)).sessions;
}

export function questions(source: Source, signal?: AbortSignal): Promise<Question[]> {
  return source.get<Question[]>("api/questions", {}, signal);
}
