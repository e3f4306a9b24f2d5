// The second picture: B's frame for the row that A's player shows, never another frame.

import { isAbort, message, type Row, type Session } from "./data";
import { drawDifferences } from "./differences";
import type { Drawing } from "./drawing";
import { Hud } from "./hud";
import type { FramePair, PairedSession } from "./paired";
import { BestPictures, type Picture } from "./pictures";
import type { Companion } from "./player";
import { Stage } from "./stage";
import { State, type Decode } from "./state";

/** What B has for a row of A. */
interface Loaded {
  pair: FramePair | null;
  row: Row | null;
  picture: Picture | null;
  drawn: Drawing | null;
  why: string;
  hasFailed: boolean;
  isShown: boolean;
}

const NO_PARTNER = "B does not have this frame";
const MOST_LOADED = 4;

/** Pictures of A, each of which waits for the one of B. */
class BothPictures extends BestPictures {
  constructor(
    session: Session,
    decode: Decode,
    say: (note: string) => void,
    private readonly other: Beside,
  ) {
    super(session, decode, say);
  }

  /** Two videos that play by themselves would not keep step. */
  override playsItself(): null {
    return null;
  }

  override async picture(row: Row): Promise<Picture> {
    const other = this.other.load(row);
    try {
      return await super.picture(row);
    } finally {
      await other;
    }
  }

  override prepare(rows: readonly Row[]): void {
    super.prepare(rows);
    this.other.prepare(rows);
  }

  override close(): void {
    super.close();
    this.other.closePictures();
  }
}

/** The second picture. */
export class Beside implements Companion {
  readonly stage: Stage;
  readonly hud: Hud;
  /** What is selected and filtered here: indices of detections are B's. */
  private readonly own = new State(false);
  private made: BestPictures | null = null;
  private readonly loaded = new Map<number, Loaded>();
  private different: FramePair["found"] = null;
  private isBare = false;
  /** Whether what is shown could not be loaded: B may just have been sealed, or the server be busy. */
  hasFailed = false;

  constructor(
    private readonly session: PairedSession,
    private readonly state: State,
    private readonly changed: (pair: FramePair) => void,
  ) {
    this.stage = new Stage(session.other, this.own, (context, _, px, size) => {
      drawDifferences(context, this.different?.different ?? [], 1, px, size);
    });
    this.stage.element.setAttribute("aria-label", "The picture of B with its detections");
    this.hud = new Hud(session.other);
  }

  close(): void {
    this.closePictures();
    this.stage.close();
  }

  /** B has changed. */
  refresh(): void {
    this.made?.refresh();
  }

  /** Whether a picture of B that is missing may come later. */
  get isWaiting(): boolean {
    return this.isBare && this.session.other.isLive;
  }

  /** Apply the page's filter and selection. */
  follow(): void {
    const { filter, selected } = this.state.values;
    const { different = [], same = [] } = this.different ?? {};
    const partner =
      different.find(({ a }) => a !== null && a === selected)?.b ?? same.find(([a]) => a === selected)?.[1] ?? null;
    this.own.set({ filter, selected: selected === null ? this.own.values.selected : partner });
    this.stage.drawOverlay();
  }

  /** Select a detection that only B has. */
  select(detection: number | null): void {
    this.own.set({ selected: detection });
    this.stage.drawOverlay();
  }

  pictures(session: Session, decode: Decode, say: (note: string) => void): BestPictures {
    this.made = new BestPictures(this.session.other, decode, (note) => { this.hud.say(note); });
    this.hud.say(this.session.other.card.picture_note);
    return new BothPictures(session, decode, say, this);
  }

  closePictures(): void {
    for (const { picture } of this.loaded.values()) picture?.close();
    this.loaded.clear();
    this.made?.close();
    this.made = null;
  }

  prepare(rows: readonly Row[]): void {
    const others = rows.flatMap(({ i }) => {
      const partner = this.session.pairNow(i)?.partner;
      const row = typeof partner === "number" ? this.session.other.rowNow(partner) : undefined;
      return row ? [row] : [];
    });
    this.made?.prepare(others);
  }

  /** Load what belongs to a row of A; never fails. */
  async load(row: Row): Promise<void> {
    const found: Loaded = { pair: null, row: null, picture: null, drawn: null, why: "", hasFailed: false, isShown: false };
    try {
      await this.fill(found, row.i);
    } catch (error) {
      if (!isAbort(error)) [found.why, found.hasFailed] = [message(error), true];
    }
    this.loaded.get(row.i)?.picture?.close();
    this.loaded.delete(row.i);
    this.loaded.set(row.i, found);
    for (const [oldest, { picture }] of this.loaded) {
      if (this.loaded.size <= MOST_LOADED) break;
      picture?.close();
      this.loaded.delete(oldest);
    }
  }

  private async fill(found: Loaded, i: number): Promise<void> {
    found.pair = await this.session.pair(i);
    const { partner } = found.pair;
    if (partner === null) {
      found.why = this.session.summary.reason ? "" : NO_PARTNER;
      return;
    }
    const { other } = this.session;
    found.row = await other.row(partner);
    const drawn = other.drawn(partner).catch(() => null);
    try {
      found.picture = (await this.made?.picture(found.row)) ?? null;
    } finally {
      found.drawn = await drawn;
    }
  }

  /** A's row is on its stage: show its partner. */
  shown(row: Row): void {
    const found = this.loaded.get(row.i);
    // A's overlay came after its picture: B is shown already, and its picture is closed.
    if (!found || (found.isShown && this.stage.element.dataset.of === String(row.i))) return;
    found.isShown = true;
    this.different = found.pair?.found ?? null;
    this.own.set({ selected: null });
    const { element } = this.stage;
    if (found.row) {
      this.stage.show(found.row, found.picture, found.drawn, found.why);
      this.hud.show(found.row);
    } else {
      this.stage.show({ ...row, i: -1, frame: -1 }, null, null, found.why || this.session.summary.reason);
    }
    element.classList.toggle("none", !found.row);
    this.isBare = !found.picture;
    this.hasFailed = found.hasFailed;
    element.dataset.of = String(row.i);
    found.picture?.close();
    found.picture = null;
    this.changed(found.pair ?? { partner: null, found: null });
    this.follow();
  }

  drawMore(context: CanvasRenderingContext2D, position: number, px: number, size: readonly [number, number]): void {
    drawDifferences(context, this.session.pairNow(position)?.found?.different ?? [], 0, px, size);
  }
}
