// The server's answers, typed; only this file knows how they are loaded.
import type { Cell, MarksAnswer, Matches, Move, Question, SeriesAnswer, SessionFacts, SqlAnswer, Why } from "./answers";
import { Chunks } from "./chunks";
import type { Drawing, OverlayAnswer } from "./drawing";
import type { Growth, Happenings, Moment } from "./happenings";

export type * from "./answers";

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
  id: string;
  /** As a command takes it; "": there is no such file. */
  path: string;
  name: string;
  n: number;
  first_frame: number | null;
  last_frame: number | null;
  duration_s: number | null;
  /** The first row's time on the recording's clock, in seconds. */
  began: number;
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
  /** The lines that an export has; undefined: there are all. */
  lines?: string[];
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

export type Query = Record<string, string | number | null | undefined>;

/** Something that cannot be shown, said in one line. */
export class Problem extends Error {}

/** Positions have changed: older parts were removed, or another recording has the name. */
export class Moved extends Problem {}

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
  /** The address of a video in which a browser can seek. */
  video(query: Query): Promise<string>;
  /** Send something that has no answer, even as the page is closed. */
  tell(path: string, query: Query): void;
  /** Listen to what happens until the returned function is called. */
  listen(path: string, query: Query, to: Happenings): () => void;
  /** A picture as the bytes of a file, with headers about it; 204: there is none yet. */
  picture(path: string, query: Query, signal: AbortSignal): Promise<Response>;
  /** The only recording, which needs no list; null: there may be others. */
  single(): Promise<string | null>;
}

/** What is wrong, in a line. */
export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

const ROWS = 500;
/** As `dgrec list` says it, for parts behind their number. */
const LIVE = "being recorded";
/** Rows of a recording in progress that may get a picture later. */
const UNSURE = 150;
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

  private readonly listeners = new Set<() => void>();
  /** A known row, by which requests say what positions mean. */
  private anchor: readonly [position: number, frame: number | null] = [-1, null];
  private moving: Promise<void> | null = null;
  /** How often positions have changed. */
  epoch = 0;
  /** Which frame is shown. */
  shownFrame: () => number | null = () => null;
  /** Called when positions have changed; "another": another recording has the name. */
  moved: (move: Move | "another") => void = () => undefined;

  protected constructor(
    readonly source: Source,
    public card: Card,
  ) {
    this.hold(card);
  }

  static async open(source: Source, s: string, signal?: AbortSignal): Promise<Session> {
    return new Session(source, await source.get<Card>("api/card", { s, brief: 1 }, signal));
  }

  private hold({ n, last_frame }: Card): void {
    this.anchor = n > 0 && last_frame !== null ? [n - 1, last_frame] : [-1, null];
  }

  private get known(): string {
    return [this.card.id, ...this.anchor].join();
  }

  /** Read the card of a recording whose positions have changed, and move everything to them. */
  private async move(): Promise<void> {
    const before = this.card;
    const signal = this.abort.signal;
    const card = await this.source.get<Card>("api/card", { s: before.s, brief: 1 }, signal);
    if (card.id !== before.id) {
      this.epoch++;
      this.moved("another");
      return;
    }
    const frame = this.shownFrame();
    const query = { s: before.s, frame, known: [card.id, card.n - 1, card.last_frame].join() };
    const position = frame === null || !card.n ? 0 : (await this.source.get<{ i: number }>("api/at", query, signal)).i;
    this.epoch++;
    const { stages, labels, labels_total, signals } = before;
    this.card = { ...card, stages, labels, labels_total, signals };
    this.hold(card);
    this.rowParts.clear();
    this.drawnParts.clear();
    this.moved({ before, position });
    this.tell();
  }

  private moveOnce(): Promise<void> {
    this.moving ??= this.move().finally(() => { this.moving = null; });
    return this.moving;
  }

  /** Ask something about positions; if they have changed, move everything and end as cancelled. */
  private async asked<T>(ask: (known: string) => Promise<T>): Promise<T> {
    const { epoch } = this;
    try {
      const found = await ask(this.known);
      if (epoch === this.epoch) return found;
    } catch (error) {
      if (!(error instanceof Moved)) throw error;
      if (epoch === this.epoch) await this.moveOnce();
    }
    throw new DOMException("", "AbortError");
  }

  /** Cancel everything that is still being loaded. */
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

  /** Whether it is being recorded. */
  get isLive(): boolean {
    return this.source.hasServer && this.card.state.includes(LIVE);
  }

  /** Call `listener` whenever there are more rows, or the recording has ended. */
  on(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Listen to the recording in progress. */
  listen(to: Happenings): () => void {
    return this.source.listen("api/live", { s: this.card.s }, to);
  }

  /** There are more rows: those loaded stay, except the last ones: more is known of them now. */
  grow({ n, first_frame, version }: Growth): void {
    const { card } = this;
    if (n < card.n || (card.n && card.first_frame !== first_frame)) {
      void this.moveOnce().catch(() => undefined);
      return;
    }
    this.rowParts.grew(this.firstUnsure());
    this.drawnParts.grew(card.n);
    const last_frame = first_frame === null ? null : first_frame + n - 1;
    this.card = { ...card, n, first_frame, last_frame, version };
    this.tell();
  }

  /** Read the card as it is now. */
  look(): Promise<Card> {
    return this.source.get<Card>("api/card", { s: this.card.s }, this.abort.signal);
  }

  /** Let the server prepare what the time line will ask for, while it counts the card's labels. */
  prepare(): void {
    if (!this.source.hasServer || !this.n) return;
    void this.series(["fps"], null, null, 1).catch(() => undefined);
  }

  /** Read the card again; `all`: the recording has ended, and its videos are complete. */
  async refresh(all: boolean): Promise<void> {
    const { epoch } = this;
    const card = await this.look();
    const { n, id, first_frame } = this.card;
    if (card.id !== id || epoch !== this.epoch || (n && card.first_frame !== first_frame)) {
      const { stages, labels, labels_total, signals } = card;
      if (card.id === id) this.card = { ...this.card, stages, labels, labels_total, signals };
      if (epoch === this.epoch) await this.moveOnce();
      else this.tell();
      return;
    }
    const before = this.card.videos.length;
    const isNewer = card.n >= this.card.n || all;
    this.card = isNewer ? card : { ...card, n: this.card.n, last_frame: this.card.last_frame };
    if (all || before !== card.videos.length) this.rowParts.clear();
    if (all) this.drawnParts.clear();
    this.tell();
  }

  private tell(): void {
    for (const listener of [...this.listeners]) listener();
  }

  /** The first of the last rows whose picture, or its duration, is not known yet. */
  private firstUnsure(): number {
    const last = Math.max(0, this.card.n - 1);
    let i = this.card.videos.length ? Math.max(0, last - UNSURE) : last;
    while (i < last && (this.rowNow(i)?.video ?? 0) >= 0) i++;
    return i;
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

  /** The position of a frame: mostly its distance from the first one. */
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

  /** Whether the server makes clips and exports for downloads. */
  async makes(): Promise<boolean> {
    if (!this.source.hasServer) return false;
    return (await this.source.get<{ are_allowed: boolean }>("api/downloads", {})).are_allowed;
  }

  make(what: Query, signal: AbortSignal): Promise<{ id: string; name: string; bytes: number }> {
    return this.get("api/make", what, signal);
  }

  videoAddress(k: number): Promise<string> {
    return this.source.video({ s: this.card.s, k, known: this.known });
  }

  /** The newest picture of the rows up to a position. */
  async newestPicture(i: number, signal: AbortSignal): Promise<{ i: number; picture: ImageBitmap }> {
    const response = await this.sent("api/picture", { i, before: UNSURE }, signal);
    return {
      i: Number(response.headers.get("X-Position") ?? i),
      picture: await createImageBitmap(await response.blob()),
    };
  }

  /** A frame just recorded, captured after another one; null: none has come in time. */
  async moment(after: number, signal: AbortSignal): Promise<Moment | null> {
    const response = await this.sent("api/newest", { after }, signal);
    if (response.headers.has("Retry-After")) throw new Problem("the recorder gives no pictures");
    if (response.status === 204) return null;
    return {
      picture: await createImageBitmap(await response.blob()),
      captured: Number(response.headers.get("X-Captured-Us")),
      age_ms: Number(response.headers.get("X-Age-Ms")),
    };
  }

  async picture(i: number, w: number | undefined, signal: AbortSignal): Promise<ImageBitmap> {
    const response = await this.sent("api/picture", { i, w }, signal);
    return createImageBitmap(await response.blob());
  }

  private sent(path: string, query: Query, signal: AbortSignal): Promise<Response> {
    const both = AbortSignal.any([signal, this.abort.signal]);
    return this.asked((known) => this.source.picture(path, { s: this.card.s, known, ...query }, both));
  }

  protected get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
    const both = signal ? AbortSignal.any([signal, this.abort.signal]) : this.abort.signal;
    return this.asked((known) => this.source.get<T>(path, { s: this.card.s, known, ...query }, both));
  }

  private async fetchRows(from: number, to: number): Promise<Row[]> {
    const a = await this.get<RowsAnswer>("api/rows", { from, to: Math.min(to, this.n) });
    const stages = Object.entries(a.ms);
    const last = a.from + a.frame.length - 1;
    if (last > this.anchor[0]) this.anchor = [last, a.frame.at(-1) ?? null];
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
