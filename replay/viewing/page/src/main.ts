// Put the parts of the page into their places, for the recording that the address names.

import { isAbort, message, type Move, Session, type Source } from "./data";
import { slot } from "./dom";
import { Files } from "./files";
import { Help } from "./help";
import { Keys } from "./keys";
import { ListPage } from "./list";
import { Live } from "./live";
import { PairView } from "./pair";
import { PairedSession } from "./paired";
import { drawOverlay, hit } from "./overlay";
import { Player } from "./player";
import { sayOpen } from "./presence";
import { showReport } from "./report";
import { Server } from "./server";
import { SidePanel } from "./side";
import { SqlPanel } from "./sql";
import { State, type Range } from "./state";
import { Timeline } from "./timeline";
import { WhyPanel } from "./why";

/** Labels and lines wait for the first picture, but no longer than this. */
const FIRST_MS = 500;

interface Part {
  close(): void;
}

class Page {
  private readonly state = new State();
  private readonly keys = new Keys();
  private readonly help = new Help(slot("help") as HTMLDialogElement, this.keys);
  private parts: Part[] = [];
  private session: Session | null = null;
  private opening = new AbortController();
  /** Whether the status says that another frame is shown than was asked for. */
  private isElsewhere = false;

  constructor(private readonly source: Source) {}

  start(): void {
    slot("help-button").addEventListener("click", () => {
      this.help.toggle();
    });
    slot("home").addEventListener("click", (event) => {
      event.preventDefault();
      this.state.show("");
    });
    this.state.on(["session", "other"], () => void this.open());
    this.state.on(["frame", "position"], ({ frame, position }) => void this.follow(frame, position));
    sayOpen(this.source);
    this.state.readHash();
    this.state.followHash();
    if (!this.state.values.session) void this.open();
  }

  /** @param again The parts are made anew: the page stays where it is. */
  private async open(again = false): Promise<void> {
    this.opening.abort();
    this.opening = new AbortController();
    const { signal } = this.opening;
    this.closeParts();
    slot("pair-top").replaceChildren();
    const { session: name, other } = this.state.values;
    document.body.dataset.view = name ? (other ? "pair" : "session") : "list";
    this.title(name);
    if (!name) {
      this.say(""); // about what was open before
      const single = await this.source.single().catch(() => null);
      if (signal.aborted) return;
      if (single !== null) {
        this.state.set({ session: single });
        return;
      }
      this.parts = [new ListPage(slot("list"), this.source, this.state, this.keys)];
      return;
    }
    this.say("loading");
    try {
      const session = await (other
        ? PairedSession.openPair(this.source, name, other, signal)
        : Session.open(this.source, name, signal));
      this.session = session;
      session.shownFrame = () => this.state.values.frame;
      session.moved = (move) => { this.moved(session, move); };
      if (session instanceof PairedSession) this.title(`${session.card.s} and ${session.other.card.s}`);
      else this.showTitle(session);
      if (session.isLive && !other && !again && this.state.values.frame === null) {
        this.state.set({ follow: true, position: Math.max(session.n - 1, 0) });
      }
      const { frame, position } = this.state.values;
      if (frame !== null) await this.follow(frame, position);
      if (signal.aborted) return;
      this.say("");
      const [state, keys] = [this.state, this.keys];
      if (frame === null) void this.follow(null, position);
      if (session instanceof PairedSession) {
        const places = {
          player: slot("player"),
          timeline: slot("timeline"),
          top: slot("pair-top"),
          below: slot("pair-below"),
          tables: slot("pair-tables"),
        };
        this.parts = [session, new PairView(places, session, state, keys)];
        return;
      }
      this.watchFirst(session);
      const player = new Player(slot("player"), session, state, keys);
      this.parts = [session, player];
      await Promise.race([player.first, later(FIRST_MS)]);
      session.prepare();
      await session.refresh(false);
      if (this.session !== session) return;
      const side = new SidePanel(slot("side"), session, state, keys);
      this.parts.push(
        side,
        new Timeline(slot("timeline"), session, state, keys),
        new SqlPanel(slot("sql"), session, state, keys),
        new WhyPanel(slot("why"), session),
        new Live(slot("live"), session, state, this.changes(session, side), (problem) => { this.say(problem, true); }),
      );
    } catch (error) {
      if (isAbort(error)) return;
      const text = message(error);
      this.say(text, true);
      if (other) slot("pair-top").textContent = text;
    }
  }

  /** Return what to do when the card of a recording in progress changes. */
  private changes(session: Session, side: SidePanel): (hasEnded: boolean) => void {
    return (hasEnded) => {
      if (this.session !== session) return;
      this.showTitle(session);
      side.update();
      // Between two of its parts, a recording may look as if it had ended.
      if (hasEnded && session.isLive) void this.open(true); // it was continued
    };
  }

  /** The first rows have come: what the address says can be found. */
  private watchFirst(session: Session): void {
    if (session.n) return;
    const off = session.on(() => {
      if (!session.n) return;
      off();
      const { frame, position } = this.state.values;
      void this.follow(frame, position);
    });
  }

  /** Old parts were removed: what is shown stays, at its new position. */
  private moved(session: Session, move: Move | "another"): void {
    if (this.session !== session) return;
    if (move === "another" || session instanceof PairedSession) {
      this.session = null; // nothing more is asked of it
      this.state.set({ position: 0, frame: null, window: null, range: null, hits: [], playing: false });
      void this.open().then(() => { this.say("this is another recording of that name", true); });
      return;
    }
    const { frame, follow, window, range } = this.state.values;
    const by = session.card.began - move.before.began;
    const { position } = move;
    this.state.set({ position, follow, window: earlier(window, by), range: earlier(range, by), hits: [] });
    if (!follow) void this.follow(frame, position);
  }

  private showTitle(session: Session): void {
    const { name, state } = session.card;
    this.title(name, state);
    slot("session-state").classList.toggle("live", session.isLive);
  }

  private closeParts(): void {
    for (const part of this.parts.reverse()) part.close();
    this.parts = [];
    this.session = null;
  }

  /** Position and frame number of the row shown always agree. */
  private async follow(frame: number | null, position: number): Promise<void> {
    const session = this.session;
    if (!session) return;
    if (this.isElsewhere) this.say("");
    this.isElsewhere = false;
    if (frame === null) {
      const row = await session.row(position).catch(() => null);
      const { position: now, frame: known } = this.state.values;
      if (row && now === position && known === null) this.state.set({ frame: row.frame });
    } else if (session.rowNow(position)?.frame !== frame) {
      const i = await session.positionOf(frame).catch(() => 0);
      const row = await session.row(i).catch(() => null);
      const { frame: wanted, selected, follow } = this.state.values;
      if (row && wanted === frame) {
        this.state.set({ position: i, frame: row.frame, selected, follow });
        if (row.frame === frame) return;
        this.isElsewhere = true;
        this.say(`There is no frame ${frame} (any more): this is the nearest one`);
      }
    }
  }

  private title(name: string, state = ""): void {
    document.title = name ? `${name} · dgrec` : "dgrec";
    slot("session-name").textContent = name;
    slot("session-state").textContent = state;
    slot("session-state").classList.remove("live");
  }

  private say(text: string, wrong = false): void {
    const status = slot("status");
    status.textContent = text;
    status.title = text;
    status.classList.toggle("wrong", wrong);
  }
}

function later(ms: number): Promise<void> {
  return new Promise((resolve) => { window.setTimeout(resolve, ms); });
}

/** A stretch, counted from a first row `by` seconds later; null: it is gone. */
function earlier(range: Range | null, by: number): Range | null {
  return range && range.to > by ? { from: Math.max(range.from - by, 0), to: range.to - by } : null;
}

async function start(): Promise<void> {
  // The pages of exports say where their data are.
  const meta = document.querySelector<HTMLMetaElement>("meta[name='dgrec-data']");
  const files = meta ? new Files(meta.content) : null;
  if (files) document.body.dataset.server = "none";
  const report = await files?.report();
  if (files && report) {
    document.body.dataset.view = "report";
    slot("session-name").textContent = report.name;
    showReport(slot("report"), report, (key) => files.file(key, "image/jpeg"));
  } else {
    new Page(files ?? new Server()).start();
  }
}

// Tests compare it with PySDK's own drawing.
Object.assign(window, { dgrec: { drawOverlay, hit } });

void start();
