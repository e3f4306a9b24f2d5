// Beside the picture: the labels to filter by, what was detected, and the recording's facts.

import type { Session } from "./data";
import { Detail } from "./detail";
import { el } from "./dom";
import { Filters } from "./filters";
import type { Keys } from "./keys";
import type { State } from "./state";

export class SidePanel {
  private readonly filters: Filters;
  private readonly detail: Detail;
  private readonly facts = el("details", { class: "facts" });
  private readonly off: () => void;

  constructor(
    private readonly element: HTMLElement,
    private readonly session: Session,
    state: State,
    keys: Keys,
  ) {
    const [filters, detail] = [el("section", { class: "filters" }), el("section", { class: "detail" })];
    element.append(filters, detail, this.facts);
    this.facts.open = session.card.caveats.length > 0;
    this.showFacts();
    this.filters = new Filters(filters, session, state);
    this.detail = new Detail(detail, session, state);
    this.off = keys.add({
      keys: ["Escape"],
      shown: "Esc",
      group: "Picture",
      text: "select nothing",
      run: () => { state.set({ selected: null }); },
    });
  }

  close(): void {
    this.off();
    this.filters.close();
    this.detail.close();
    this.element.replaceChildren();
  }

  /** Show the card as it is now. */
  update(): void {
    this.filters.update();
    this.showFacts();
  }

  private showFacts(): void {
    const { facts, caveats } = this.session.card;
    const pairs = facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, el("bdi", {}, value))]);
    const summary = this.facts.firstElementChild ?? el("summary", {}, "About this recording");
    if (!summary.isConnected) this.facts.append(summary);
    while (summary.nextSibling) summary.nextSibling.remove();
    this.facts.append(...caveats.map((text) => el("p", { class: "caveat" }, text)), el("dl", {}, ...pairs));
  }
}
