// Put the parts of the page into their places, for the recording that the address names.

import { isAbort, Session, type Source } from "./data";
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
import { State } from "./state";
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
  private side: SidePanel | null = null;
  private session: Session | null = null;
  private opening = new AbortController();

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
      const player = new Player(slot("player"), session, state, keys);
      this.parts = [session, player];
      await Promise.race([player.first, later(FIRST_MS)]);
      session.prepare();
      await session.refresh(false);
      if (this.session !== session) return;
      this.parts.push(
        this.newSide(session),
        new Timeline(slot("timeline"), session, state, keys),
        new SqlPanel(slot("sql"), session, state, keys),
        new WhyPanel(slot("why"), session),
        new Live(slot("live"), session, state, this.changes(session), (problem) => { this.say(problem, true); }),
      );
    } catch (error) {
      if (isAbort(error)) return;
      const text = error instanceof Error ? error.message : String(error);
      this.say(text, true);
      if (other) slot("pair-top").textContent = text;
    }
  }

  private newSide(session: Session): SidePanel {
    this.side = new SidePanel(slot("side"), session, this.state, this.keys);
    return this.side;
  }

  /** What is done when the card of a recording in progress has changed. */
  private changes(session: Session): () => void {
    let before = signs(session);
    return () => {
      if (this.session !== session) return;
      this.showTitle(session);
      const now = signs(session);
      if (now.lines !== before.lines) void this.open(true); // its first rows
      else if (now.side !== before.side && !slot("side").contains(document.activeElement)) {
        this.side?.close();
        const place = this.parts.findIndex((part) => part === this.side);
        this.parts[place] = this.newSide(session);
      }
      before = now;
    };
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
    if (frame === null) {
      const row = await session.row(position).catch(() => null);
      const { position: now, frame: known } = this.state.values;
      if (row && now === position && known === null) this.state.set({ frame: row.frame });
    } else if (session.rowNow(position)?.frame !== frame) {
      const i = await session.positionOf(frame).catch(() => 0);
      const row = await session.row(i).catch(() => null);
      if (row && this.state.values.frame === frame) {
        this.state.set({ position: i, frame: row.frame, selected: this.state.values.selected });
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

/** What the parts of the page were made by. */
function signs({ card }: Session): { lines: string; side: string } {
  return {
    lines: String(card.n > 0 && card.stages.length > 0),
    side: JSON.stringify([card.labels.map(({ label }) => label), card.state]),
  };
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
