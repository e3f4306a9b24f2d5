// Data of an export: scripts beside the page, or blocks inside it. Without a server, a page that was
// opened from a file may load scripts, pictures and videos, and nothing else.

import {
  Problem,
  type Card,
  type Mark,
  type MarkKind,
  type MarksAnswer,
  type Query,
  type Question,
  type SeriesAnswer,
  type SessionFacts,
  type Source,
} from "./data";
import type { Report } from "./report";
import { copyOf, givesParts } from "./server";

declare global {
  interface Window {
    /** Called by the scripts of an export. */
    dgrecData?: (key: string, packed: string) => void;
  }
}

/** An export's contents. */
interface Index {
  sessions: SessionFacts[];
  /** The folder of each session's data, by its name. */
  folders: Record<string, string>;
  /** Pictures in the list, by the same names. */
  thumbs: Record<string, string>;
}

/** Least and largest value in each part; null where it has none. */
type Ranges = ([number, number] | null)[];

/** An export's contents for one session: where its parts are. */
interface Contents {
  card: Card;
  /** Rows in a part, and each part's ranges of numbers and times. */
  rows: { size: number; frame: Ranges; t: Ranges; media: Ranges };
  /** The first position of each part. */
  overlay: number[];
  details: number[];
  /** For each width of the time line: how many parts it is cut into. */
  levels: number[];
  /** Names of the videos' files. */
  videos: Record<string, string>;
}

type Lines = SeriesAnswer & { marks: MarksAnswer & { totals?: Record<string, number> } };

const KEPT = 24;
const NO_SQL =
  "SQL needs dgrec itself: `dgrec view SESSION`. Without it, the questions of the library have " +
  "their answers here.";

export class Files implements Source {
  hasRanges = location.protocol.startsWith("http");
  readonly hasServer = false;
  readonly note = NO_SQL;
  private readonly waiting = new Map<string, (packed: string) => void>();
  private readonly kept = new Map<string, Promise<unknown>>();
  private readonly addresses = new Map<string, string>();
  private index: Index | null = null;
  private readonly contents = new Map<string, Contents>();

  /** @param folder Where the scripts are; "": the data are inside the page. */
  constructor(private readonly folder: string) {
    if (!folder) this.hasRanges = false;
    window.dgrecData = (key, packed) => this.waiting.get(key)?.(packed);
  }

  /** The report that the page was made for; null: it was not made for one. */
  async report(): Promise<Report | null> {
    return this.folder || !hasBlock("report") ? null : ((await this.read("report")) as Report);
  }

  async single(): Promise<string | null> {
    const { sessions } = await this.getIndex();
    return sessions.length === 1 ? (sessions[0]?.s ?? null) : null;
  }

  async get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
    const found = await this.answer(path, query);
    signal?.throwIfAborted();
    return found as T;
  }

  tell(): void {
    // Nothing waits for this page to be closed.
  }

  listen(): () => void {
    return () => undefined;
  }

  picture(): Promise<Response> {
    return Promise.reject(new Problem("this export has no such picture"));
  }

  address(path: string, query: Query): string {
    const s = text(query.s);
    const contents = this.contents.get(s);
    const folder = this.index?.folders[s] ?? "";
    if (path === "api/thumb") {
      const thumb = this.index?.thumbs[s];
      return thumb ? this.file(`${folder}/${thumb}`, "image/jpeg") : "";
    }
    const name = contents?.videos[text(query.k)];
    return name ? this.file(`${folder}/${name}`, "video/mp4") : "";
  }

  /** A video's address: that of a full copy if the server gives no parts, which seeking needs. */
  async video(query: Query): Promise<string> {
    const address = this.address("video", query);
    if (!this.folder || this.hasRanges || !location.protocol.startsWith("http")) return address;
    let copy = this.addresses.get(address);
    if (!copy) {
      copy = await copyOf(address);
      this.addresses.set(address, copy);
    }
    return copy;
  }

  private async tryRanges(s: string, { videos }: Contents): Promise<void> {
    const [k] = Object.keys(videos);
    if (!this.hasRanges || k === undefined) return;
    this.hasRanges = await givesParts(this.address("video", { s, k }));
  }

  private async answer(path: string, query: Query): Promise<unknown> {
    switch (path) {
      case "api/sessions":
        return this.sessions(text(query.q), text(query.where));
      case "api/questions":
        return this.questions();
    }
    const s = text(query.s);
    const folder = await this.folderOf(s);
    const contents = await this.contentsOf(s, folder);
    switch (path) {
      case "api/card":
        await this.tryRanges(s, contents);
        return contents.card;
      case "api/rows":
        return this.rows(folder, contents, number(query.from) ?? 0, number(query.to) ?? 0);
      case "api/overlay":
        return this.overlay(folder, contents, number(query.from) ?? 0, number(query.to) ?? 0);
      case "api/row":
        return this.details(folder, contents, number(query.i) ?? 0);
      case "api/at":
        return { i: await this.at(folder, contents, query) };
      case "api/series":
        return this.series(folder, contents, query);
      case "api/marks":
        return this.marks(folder, contents, query);
      case "api/next":
        return this.next(folder, query);
      case "api/why":
        return this.read(`${folder}/why`);
      case "api/sql":
        return this.sql(folder, text(query.q));
      case "api/matches":
        throw new Problem("conditions in SQL need dgrec itself: `dgrec view SESSION`");
      default:
        throw new Problem("this needs dgrec itself: `dgrec view SESSION`");
    }
  }

  // Contents

  private async getIndex(): Promise<Index> {
    this.index ??= (await this.read("index")) as Index;
    return this.index;
  }

  private async folderOf(s: string): Promise<string> {
    const { folders } = await this.getIndex();
    const folder = Object.hasOwn(folders, s) ? folders[s] : undefined;
    if (folder === undefined) throw new Problem(`there is no recording '${s.length > 80 ? s.slice(0, 80) + "…" : s}' here`);
    return folder;
  }

  private async contentsOf(s: string, folder: string): Promise<Contents> {
    let contents = this.contents.get(s);
    if (!contents) {
      contents = (await this.read(`${folder}/session`)) as Contents;
      this.contents.set(s, contents);
    }
    return contents;
  }

  private async sessions(q: string, where: string): Promise<{ sessions: SessionFacts[] }> {
    if (where) throw new Problem(NO_SQL);
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    const { sessions } = await this.getIndex();
    const of = (facts: SessionFacts) =>
      [facts.s, facts.path, facts.model, facts.source, facts.state].join(" ").toLowerCase();
    return { sessions: sessions.filter((facts) => words.every((word) => of(facts).includes(word))) };
  }

  private async questions(): Promise<Question[]> {
    return (await this.read("questions")) as Question[];
  }

  private async sql(folder: string, q: string): Promise<unknown> {
    const at = (await this.questions()).findIndex(({ sql }) => same(sql, q));
    if (at < 0) throw new Problem(NO_SQL);
    return this.read(`${folder}/answer-${at}`);
  }

  // Rows and overlays

  private async rows(folder: string, { rows }: Contents, from: number, to: number): Promise<unknown> {
    const part = Math.floor(from / rows.size);
    const first = part * rows.size;
    const answer = (await this.read(`${folder}/rows-${part}`)) as Record<string, unknown>;
    return { ...cut(answer, from - first, to - first), from };
  }

  private async overlay(
    folder: string,
    { overlay }: Contents,
    from: number,
    to: number,
  ): Promise<unknown> {
    const part = partWith(overlay, from);
    const first = overlay[part] ?? 0;
    const answer = (await this.read(`${folder}/overlay-${part}`)) as { frames: unknown[] };
    return { ...answer, from, frames: answer.frames.slice(from - first, to - first) };
  }

  private async details(folder: string, { details }: Contents, i: number): Promise<unknown> {
    const part = partWith(details, i);
    const rows = (await this.read(`${folder}/details-${part}`)) as unknown[];
    return rows[i - (details[part] ?? 0)];
  }

  private async at(folder: string, { rows }: Contents, query: Query): Promise<number> {
    const [name, column, value] =
      query.frame !== undefined
        ? (["frame", "frame", number(query.frame)] as const)
        : query.media !== undefined
          ? (["media", "media_s", number(query.media)] as const)
          : (["t", "t", number(query.t)] as const);
    const wanted = value ?? 0;
    const away = (range: [number, number] | null) =>
      range ? Math.max(range[0] - wanted, wanted - range[1], 0) : Infinity;
    const part = least(rows[name].map(away));
    if (part < 0) throw new Problem("there are no such frames");
    const answer = (await this.read(`${folder}/rows-${part}`)) as Record<string, (number | null)[]>;
    const near = least((answer[column] ?? []).map((v) => (v === null ? Infinity : Math.abs(v - wanted))));
    return part * rows.size + Math.max(near, 0);
  }

  private async next(folder: string, query: Query): Promise<unknown> {
    const marked = (await this.read(`${folder}/next`)) as Record<string, number[]>;
    const i = number(query.i) ?? 0;
    const kinds = text(query.kind).split(",").filter(Boolean);
    let best: { i: number | null; kind?: string } = { i: null };
    for (const kind of kinds.length ? kinds : Object.keys(marked)) {
      const positions = marked[kind] ?? [];
      const isForwards = Number(query.dir ?? 1) > 0;
      const found = isForwards
        ? positions.find((position) => position > i)
        : positions.filter((position) => position < i).pop();
      if (found === undefined) continue;
      if (best.i === null || Math.abs(found - i) < Math.abs(best.i - i)) best = { i: found, kind };
    }
    return best;
  }

  // The time line

  private async series(folder: string, contents: Contents, query: Query): Promise<SeriesAnswer> {
    const parts = await this.lines(folder, contents, query);
    const first = parts[0];
    const last = parts[parts.length - 1];
    if (!first || !last) return { from: 0, to: 0, step: 0, series: {} };
    const series: SeriesAnswer["series"] = {};
    for (const name of text(query.names).split(",").map(decoded)) {
      const line = { min: [], max: [], mean: [] } as SeriesAnswer["series"][string];
      for (const part of parts) {
        const known = Object.hasOwn(part.series, name) ? part.series[name] : undefined;
        const empty = Array<null>(Math.round((part.to - part.from) / part.step)).fill(null);
        line.min.push(...(known?.min ?? empty));
        line.max.push(...(known?.max ?? empty));
        line.mean.push(...(known?.mean ?? empty));
      }
      series[name] = line;
    }
    return { ...first, to: last.to, step: (last.to - first.from) / width(parts), series };
  }

  private async marks(folder: string, contents: Contents, query: Query): Promise<MarksAnswer> {
    const parts = await this.lines(folder, contents, query);
    const from = number(query.from) ?? -Infinity;
    const to = number(query.to) ?? Infinity;
    const step = (parts[0]?.step ?? 0) * Math.max(1, width(parts) / (number(query.width) ?? 1000));
    const found: Record<string, Mark[]> = {};
    const totals: Record<string, number> = {};
    for (const [k, { from: start, marks }] of parts.entries()) {
      for (const [kind, list] of Object.entries(marks)) {
        if (!Array.isArray(list)) continue;
        const merged = (found[kind] ??= []);
        for (const mark of list) {
          if ((mark.to ?? mark.t) < from || mark.t > to) continue;
          if (k > 0 && mark.t < start) continue; // the part before has it, too
          totals[kind] = (totals[kind] ?? 0) + mark.count;
          const last = merged[merged.length - 1];
          if (last && Math.floor(last.t / step) === Math.floor(mark.t / step)) last.count += mark.count;
          else merged.push({ ...mark });
        }
      }
    }
    return { ...(found as Record<MarkKind, Mark[]>), totals } as MarksAnswer;
  }

  /** The parts of the time line at the least width that shows every pixel of what is asked for. */
  private async lines(folder: string, { levels }: Contents, query: Query): Promise<Lines[]> {
    const whole = (await this.read(`${folder}/lines-0-0`)) as Lines;
    const length = whole.to - whole.from;
    const from = Math.max(number(query.from) ?? whole.from, whole.from);
    const to = Math.min(number(query.to) ?? whole.to, whole.to);
    if (length <= 0 || to < from) return [whole];
    const wanted = (to - from) / Math.max(number(query.width) ?? 1000, 1);
    const fine = levels.findIndex((parts) => whole.step / parts <= wanted);
    const level = fine < 0 ? levels.length - 1 : fine;
    if (level === 0) return [whole];
    const count = levels[level] ?? 1;
    const part = (t: number) =>
      Math.min(Math.max(Math.floor(((t - whole.from) / length) * count), 0), count - 1);
    const wantedParts = [];
    for (let k = part(from); k <= part(to); k++) wantedParts.push(this.read(`${folder}/lines-${level}-${k}`));
    return (await Promise.all(wantedParts)) as Lines[];
  }

  // Loading

  /** Read one part of the data; the least recently used are forgotten. */
  private read(key: string): Promise<unknown> {
    const known = this.kept.get(key) ?? this.packed(key).then(unpacked);
    this.kept.delete(key);
    this.kept.set(key, known);
    known.catch(() => this.kept.delete(key));
    for (const oldest of this.kept.keys()) {
      if (this.kept.size <= KEPT) break;
      this.kept.delete(oldest);
    }
    return known;
  }

  private packed(key: string): Promise<string> {
    if (!this.folder) return Promise.resolve(block(key));
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const end = () => {
        this.waiting.delete(key);
        script.remove();
      };
      this.waiting.set(key, resolve);
      script.addEventListener("load", () => {
        end();
        reject(new Problem(`${key}.js of this export is damaged`)); // unless it was resolved
      });
      script.addEventListener("error", () => {
        end();
        reject(new Problem(`${key}.js of this export is missing`));
      });
      script.src = `${this.folder}${key}.js`;
      document.head.append(script);
    });
  }

  /** The address of a file: beside the page, or made of a block inside it. */
  file(name: string, type: string): string {
    if (this.folder) return new URL(this.folder + name, document.baseURI).href;
    let address = this.addresses.get(name);
    if (!address) {
      address = URL.createObjectURL(new Blob([bytes(block(name))], { type }));
      this.addresses.set(name, address);
    }
    return address;
  }
}

function blockOf(key: string): HTMLScriptElement | undefined {
  const all = document.querySelectorAll<HTMLScriptElement>("script[data-key]");
  return [...all].find((element) => element.dataset.key === key);
}

function hasBlock(key: string): boolean {
  return blockOf(key) !== undefined;
}

/** The text of a block of data inside the page. */
function block(key: string): string {
  const found = blockOf(key);
  if (found) return found.text;
  throw new Problem("this page does not have all of the recording: `dgrec view SESSION`");
}

function bytes(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

async function unpacked(packed: string): Promise<unknown> {
  const stream = new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

/** Columns cut to the rows from one position to another. */
function cut(value: Record<string, unknown>, from: number, to: number): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).map(([name, column]) => {
      if (Array.isArray(column)) return [name, column.slice(from, to)];
      const isMore = typeof column === "object" && column !== null;
      return [name, isMore ? cut(column as Record<string, unknown>, from, to) : column];
    }),
  );
}

/** The last of the parts that begin at or before a position. */
function partWith(starts: number[], i: number): number {
  let [low, high] = [0, starts.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((starts[middle] ?? Infinity) <= i) low = middle + 1;
    else high = middle;
  }
  return Math.max(low - 1, 0);
}

/** Index of the least value; -1: none. */
function least(values: number[]): number {
  let best = -1;
  for (const [i, value] of values.entries()) {
    if (value < (best < 0 ? Infinity : (values[best] ?? Infinity))) best = i;
  }
  return best;
}

/** How many pixels parts of the time line have. */
function width(parts: Lines[]): number {
  return parts.reduce((sum, { from, to, step }) => sum + Math.round((to - from) / step), 0);
}

function same(sql: string, other: string): boolean {
  const plain = (words: string) => words.trim().replace(/;$/, "").replace(/\s+/g, " ");
  return plain(sql) === plain(other);
}

function text(value: Query[string]): string {
  return value === null || value === undefined ? "" : String(value);
}

function number(value: Query[string]): number | null {
  return value === null || value === undefined || value === "" ? null : Number(value);
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
