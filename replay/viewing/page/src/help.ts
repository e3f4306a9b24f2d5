// The dialog that lists the keys.

import { el } from "./dom";
import type { Keys } from "./keys";

const NAMES: Record<string, string> = {
  " ": "Space",
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
};

export class Help {
  constructor(
    private readonly dialog: HTMLDialogElement,
    private readonly keys: Keys,
  ) {
    keys.add({ keys: ["?"], group: "Page", text: "this help", run: () => { this.toggle(); } });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // the backdrop
    });
  }

  toggle(): void {
    if (this.dialog.open) {
      this.dialog.close();
      return;
    }
    this.fill();
    this.dialog.showModal();
  }

  private fill(): void {
    const groups = new Map<string, HTMLElement[]>();
    for (const { keys, shown, group, text } of this.keys.all()) {
      const names = (shown ? shown.split(" ") : keys).map((key) => el("kbd", {}, NAMES[key] ?? key));
      const entries = groups.get(group) ?? [];
      entries.push(el("dt", {}, ...names), el("dd", {}, text));
      groups.set(group, entries);
    }
    const columns = [...groups].map(([name, entries]) =>
      el("section", {}, el("h3", {}, name), el("dl", {}, ...entries)),
    );
    const close = el("button", { type: "button", class: "quiet", click: () => { this.dialog.close(); } }, "Close");
    this.dialog.replaceChildren(
      el("header", {}, el("h2", { id: "help-title" }, "Keys"), close),
      el("div", { class: "columns" }, ...columns),
    );
  }
}
