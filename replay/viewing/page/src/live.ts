// A recording in progress: its rows as they come, what happens, and whether the page follows.

import { isAbort, message, type Session } from "./data";
import { el, slot } from "./dom";
import type { Alert, Growth, Target } from "./happenings";
import type { State } from "./state";
import { clock } from "./words";

/** The card is read again after this, or later where that takes long. */
const CARD_MS = 5000;
const FIRST_CARD_MS = 1000;
const SHARE = 0.05;
const MOST_ALERTS = 50;

export class Live {
  private readonly button: HTMLButtonElement;
  private readonly targets = el("table", { class: "live-targets", hidden: true });
  private readonly alerts = el("ul", { class: "live-alerts", role: "log", "aria-live": "polite", "aria-label": "Alerts" });
  private readonly ends: (() => void)[] = [];
  private unlisten: (() => void) | null = null;
  private cardDue = 0;
  private hasEnded = false;
  /** Whether the connection was lost. */
  private isWrong = false;
  private isClosed = false;

  /**
   * @param changed Called when the card has changed.
   * @param say Gets what is wrong; "": nothing is.
   */
  constructor(
    private readonly element: HTMLElement,
    private readonly session: Session,
    private readonly state: State,
    private readonly changed: (hasEnded: boolean) => void,
    private readonly say: (problem: string) => void,
  ) {
    this.button = el(
      "button",
      {
        type: "button",
        class: "follow",
        title: "Stay at the newest frame (End)",
        click: () => { state.set({ playing: false, follow: !state.values.follow }); },
      },
      "Follow",
    );
    if (!session.isLive) return;
    slot("session-state").after(this.button);
    element.replaceChildren(el("h2", {}, "While it is recorded"), this.targets, this.alerts);
    const turn = () => { this.turn(); };
    document.addEventListener("visibilitychange", turn);
    this.ends.push(
      () => { document.removeEventListener("visibilitychange", turn); },
      state.on(["follow"], () => { this.update(); }),
      state.on(["playing"], ({ playing }) => { if (playing) state.set({ follow: false }); }),
    );
    this.cardDue = performance.now() + FIRST_CARD_MS; // its video has hardly begun
    this.turn();
    this.update();
  }

  close(): void {
    this.isClosed = true;
    this.unlisten?.();
    this.unlisten = null;
    for (const end of this.ends) end();
    this.button.remove();
    this.element.hidden = true;
    this.element.replaceChildren();
  }

  private readonly complain = (error: unknown): void => {
    if (!this.isClosed && !isAbort(error)) this.say(message(error));
  };

  private update(): void {
    this.button.setAttribute("aria-pressed", String(this.state.values.follow));
    this.element.hidden = this.targets.hidden && !this.alerts.childElementCount;
  }

  /** A page in the background needs no connection; browsers have few for each server. */
  private turn(): void {
    const isOn = !document.hidden && !this.hasEnded && !this.isClosed;
    if (isOn === (this.unlisten !== null)) return;
    if (!isOn) {
      this.unlisten?.();
      this.unlisten = null;
      return;
    }
    this.unlisten = this.session.listen({
      grew: (growth) => void this.grew(growth),
      alert: (alert) => { this.alert(alert); },
      targets: (targets) => { this.showTargets(targets); },
      ended: () => void this.ended(),
      problem: ({ error }) => { this.say(error); },
      connected: (isConnected) => {
        if (isConnected && this.isWrong) this.say("");
        this.isWrong = !isConnected;
        if (!isConnected) void this.session.look().catch(this.complain);
      },
    });
  }

  private async grew(growth: Growth): Promise<void> {
    const { card } = this.session;
    if (growth.version === card.version) return;
    const isFirst = card.n === 0;
    this.session.grow(growth);
    await this.readCard(isFirst).catch(() => undefined);
  }

  /** Labels, videos and facts are read now and then. */
  private async readCard(now: boolean): Promise<void> {
    const { session } = this;
    const row = session.rowNow(session.n - 1);
    const isNewVideo = (row?.video ?? -1) >= session.card.videos.length;
    if (!now && !isNewVideo && performance.now() < this.cardDue) return;
    this.cardDue = Infinity;
    const began = performance.now();
    try {
      await session.refresh(false);
      this.changed(this.hasEnded);
    } finally {
      const took = performance.now() - began;
      this.cardDue = performance.now() + Math.max(CARD_MS, took / SHARE);
    }
  }

  /** It was sealed, killed or recovered: what was shown stays. */
  private async ended(): Promise<void> {
    this.hasEnded = true;
    this.turn();
    await this.session.refresh(true).catch(this.complain);
    if (this.isClosed) return;
    this.state.set({ follow: false });
    this.button.remove();
    this.changed(this.hasEnded);
    this.watchOn();
  }

  /** It may be recovered, or continued, while it is shown. */
  private watchOn(): void {
    const timer = window.setInterval(() => void this.readAgain(), CARD_MS);
    this.ends.push(() => { window.clearInterval(timer); });
  }

  private async readAgain(): Promise<void> {
    if (document.hidden) return;
    const { state, version } = this.session.card;
    const found = await this.session.look().catch(() => null);
    if (this.isClosed || !found || (found.state === state && found.version === version)) return;
    await this.session.refresh(true).catch(() => undefined);
    this.changed(this.hasEnded);
  }

  private alert({ name, rule, t, i }: Alert): void {
    const text = `${name ?? "alert"}${t === null ? "" : ` at ${clock(t)}`}`;
    const go = (event: Event) => {
      event.preventDefault();
      if (i !== null && t !== null) void this.goTo(i, t);
    };
    this.alerts.prepend(
      el("li", { title: rule ?? "" }, i === null ? text : el("a", { href: `#s=${encodeURIComponent(this.session.card.s)}`, click: go }, text)),
    );
    while (this.alerts.childElementCount > MOST_ALERTS) this.alerts.lastElementChild?.remove();
    this.update();
  }

  /** Go to the row of an alert's mark, which may have come since: the camera was silent. */
  private async goTo(i: number, t: number): Promise<void> {
    this.state.go(i);
    const found = await this.session.marks(t, t, 1).catch(() => null);
    const row = found?.alerts?.at(-1)?.i; // others may last since before
    if (row !== undefined && this.state.values.position === i) this.state.go(row);
  }

  private showTargets(targets: Target[]): void {
    const head = ["Target", "Delivered", "Waiting", "Lost"];
    const cells = ({ target, delivered, waiting, left_out, problem }: Target) => [
      el("th", { scope: "row", title: problem }, target),
      ...[delivered, waiting, left_out].map((value) => el("td", {}, value === null ? "–" : value.toLocaleString("en"))),
    ];
    this.targets.replaceChildren(
      el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...targets.map((each) => el("tr", { class: each.problem ? "wrong" : "" }, ...cells(each)))),
    );
    this.targets.hidden = targets.length === 0;
    this.update();
  }
}
