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
  private readonly off: () => void;

  constructor(
    private readonly element: HTMLElement,
    session: Session,
    state: State,
    keys: Keys,
  ) {
    const [filters, detail] = [el("section", { class: "filters" }), el("section", { class: "detail" })];
    element.append(filters, detail, facts(session));
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
}

function facts(session: Session): HTMLElement {
  const { facts: known, caveats } = session.card;
  const pairs = known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, el("bdi", {}, value))]);
  return el(
    "details",
    { class: "facts", open: caveats.length > 0 },
    el("summary", {}, "About this recording"),
    ...caveats.map((text) => el("p", { class: "caveat" }, text)),
    el("dl", {}, ...pairs),
  );
}
