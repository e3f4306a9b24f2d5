// A recording and the one beside it: which frames are the same, and what differs in them.

import { Chunks } from "./chunks";
import { Problem, Session, type Card, type MarksAnswer, type Row, type SeriesAnswer, type Source } from "./data";

/** The kinds of differences. */
export type Group = "label" | "shift" | "only_a" | "only_b";

/** A's and B's; null where there is none. */
export type Both<T> = [T | null, T | null];
export type Box = [number | null, number | null, number | null, number | null];

export interface Difference {
  /** As `dgrec compare` calls it. */
  kind: string;
  group: Group;
  /** Indices of the detections. */
  a: number | null;
  b: number | null;
  iou: number | null;
  labels: Both<string>;
  boxes: Both<Box>;
}

export interface FramePair {
  /** Position in B; null: B does not have this frame. */
  partner: number | null;
  /** Null: there is no partner. */
  found: {
    source_frame: number;
    kinds: Record<string, number>;
    groups: Record<Group, number>;
    same: [number, number, number | null][];
    different: Difference[];
    not_compared: number;
  } | null;
}

interface RowsAnswer {
  from: number;
  partner: (number | null)[];
  frames: FramePair["found"][];
}

export interface Summary {
  n: number;
  n_b: number;
  paired: number;
  /** Why no frames are paired. */
  reason: string;
}

export interface Verdict {
  state: "comparing" | "done" | "failed";
  share: number;
  problem: string;
  /** How many detections are the same, or differ in each way, so far. */
  groups: Record<"same" | Group, number>;
  conclusion: string[];
  notes: string[];
  tables: { title: string; columns: string[]; numeric: boolean[]; rows: string[][] }[];
}

const ROWS = 50;
/** The prefix of names of B's lines. */
const OF_B = "b:";

export class PairedSession extends Session {
  private readonly pairs = new Chunks<FramePair>(ROWS, 24, (from, to) => this.fetchPairs(from, to));

  private constructor(
    source: Source,
    card: Card,
    readonly other: Session,
    public summary: Summary,
  ) {
    super(source, card);
  }

  static async openPair(source: Source, a: string, b: string, signal: AbortSignal): Promise<PairedSession> {
    const [card, other] = await Promise.all([
      source.get<Card>("api/card", { s: a }, signal),
      Session.open(source, b, signal).then(async (opened) => { await opened.refresh(false); return opened; }),
    ]);
    const summary = await source.get<Summary>("api/pair", { a, b }, signal);
    return new PairedSession(source, card, other, summary);
  }

  override close(): void {
    super.close();
    this.other.close();
  }

  /** Whether one of them is being recorded. */
  get grows(): boolean {
    return this.isLive || this.other.isLive;
  }

  /** Load what was recorded meanwhile, and its pairing; return whether there is anything new. */
  async renew(signal: AbortSignal): Promise<boolean> {
    const sides = [this, this.other];
    const brief = await Promise.all(sides.map(({ card: { s } }) => this.source.get<Card>("api/card", { s, brief: 1 }, signal)));
    const summary = await this.ofPair<Summary>("api/pair", {}, signal);
    const isNew = brief.some((card, k) => card.version !== sides[k]?.card.version);
    if (!isNew && JSON.stringify(summary) === JSON.stringify(this.summary)) return false;
    this.summary = summary;
    this.pairs.clear();
    for (const [k, side] of sides.entries()) {
      const card = brief[k];
      if (!card || card.version === side.card.version) continue;
      const hasEnded = side.card.state !== card.state;
      side.grow(card);
      await side.refresh(hasEnded);
    }
    return true;
  }

  /** What B has for a row, if it is here already. */
  pairNow(i: number): FramePair | undefined {
    return this.pairs.get(i);
  }

  async pair(i: number): Promise<FramePair> {
    const pair = await this.pairs.load(i);
    if (!pair) throw new Problem(`there is no row ${i}`);
    return pair;
  }

  override ahead(from: number, to: number): void {
    super.ahead(from, to);
    for (let i = Math.max(0, from); i < Math.min(to, this.n); i += ROWS) {
      void this.pairs.load(i).then((pair) => {
        if (typeof pair?.partner === "number") this.other.ahead(pair.partner, pair.partner + ROWS);
      }, () => undefined);
    }
  }

  verdict(signal: AbortSignal): Promise<Verdict> {
    return this.ofPair("api/verdict", {}, signal);
  }

  override get otherStages(): string[] {
    return this.other.card.stages;
  }

  override measured(row: Row): Record<string, number | null> {
    const partner = this.pairNow(row.i)?.partner;
    const other = typeof partner === "number" ? this.other.rowNow(partner) : undefined;
    const ms = Object.entries(other?.ms ?? {}).map(([name, value]) => [OF_B + name, value]);
    return { ...row.ms, ...(Object.fromEntries(ms) as Row["ms"]) };
  }

  override async series(
    names: string[],
    from: number | null,
    to: number | null,
    width: number,
    signal?: AbortSignal,
  ): Promise<SeriesAnswer> {
    const ofB = names.filter((name) => name.startsWith(OF_B)).map((name) => name.slice(OF_B.length));
    const own = super.series(names.filter((name) => !name.startsWith(OF_B)), from, to, width, signal);
    if (!ofB.length) return own;
    const [a, b] = await Promise.all([
      own,
      this.ofPair<SeriesAnswer>("api/pair/series", { names: ofB.join(","), from, to, width }, signal),
    ]);
    const others = Object.entries(b.series).map(([name, values]) => [OF_B + name, values]);
    return { ...a, series: { ...a.series, ...(Object.fromEntries(others) as SeriesAnswer["series"]) } };
  }

  override async marks(from: number | null, to: number | null, width: number, signal?: AbortSignal): Promise<MarksAnswer> {
    const [own, pair] = await Promise.all([
      super.marks(from, to, width, signal),
      this.ofPair<MarksAnswer>("api/pair/marks", { from, to, width }, signal),
    ]);
    return { ...own, differences: pair.differences ?? [] };
  }

  override async next(i: number, kind: string, dir: 1 | -1): Promise<number | null> {
    if (kind !== "difference") return super.next(i, kind, dir);
    const found = await this.ofPair<{ i: number | null; is_certain: boolean }>("api/pair/next", { i, dir });
    if (!found.is_certain) throw new Problem("still comparing: no difference among the frames near this one");
    return found.i;
  }

  private ofPair<T>(path: string, query: Record<string, string | number | null>, signal?: AbortSignal): Promise<T> {
    return this.get<T>(path, { a: this.card.s, b: this.other.card.s, ...query }, signal);
  }

  private async fetchPairs(from: number, to: number): Promise<FramePair[]> {
    const end = Math.min(to, this.n);
    const found: FramePair[] = [];
    // An answer ends early where its frames have many detections.
    while (from + found.length < end) {
      const answer = await this.ofPair<RowsAnswer>("api/pair", { from: from + found.length, to: end });
      if (!answer.frames.length) break;
      found.push(...answer.frames.map((each, k) => ({ partner: answer.partner[k] ?? null, found: each })));
    }
    // Rows recorded since the pairing.
    while (from + found.length < end) found.push({ partner: null, found: null });
    return found;
  }
}
