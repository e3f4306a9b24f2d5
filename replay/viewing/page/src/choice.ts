// Two recordings of the list, chosen to be compared.

import { el } from "./dom";

const MOST = 2;

export class Choice {
  readonly button: HTMLButtonElement;
  /** Names in the order in which they were chosen: the first is A. */
  private names: string[] = [];

  constructor(
    private readonly boxes: () => Iterable<HTMLInputElement>,
    compare: (a: string, b: string) => void,
  ) {
    this.button = el("button", { type: "button", class: "list-compare" });
    this.button.addEventListener("click", () => {
      const [a, b] = this.names;
      if (a !== undefined && b !== undefined) compare(a, b);
    });
    this.show();
  }

  /** A checkbox to choose a recording. */
  box(name: string): HTMLInputElement {
    const box = el("input", { type: "checkbox", "data-choose": name, "aria-label": `Compare ${name}`, title: "Choose two recordings to compare" });
    box.checked = this.names.includes(name);
    box.addEventListener("change", () => { this.choose(name, box.checked); });
    return box;
  }

  /** Choose a recording, or undo that; a third one replaces the one that was chosen first. */
  choose(name: string, isChosen = !this.names.includes(name)): void {
    const others = this.names.filter((each) => each !== name);
    this.names = isChosen ? [...others, name].slice(-MOST) : others;
    for (const box of this.boxes()) box.checked = this.names.includes(box.dataset.choose ?? "");
    this.show();
  }

  /** Keep only those that are still there. */
  keep(there: readonly string[]): void {
    this.names = this.names.filter((name) => there.includes(name));
    this.show();
  }

  private show(): void {
    const count = this.names.length;
    this.button.disabled = count < MOST;
    this.button.classList.toggle("primary", count === MOST);
    this.button.textContent = count === 1 ? "Compare with …" : "Compare";
    this.button.title = count < MOST ? "Choose two recordings" : this.names.join(" with ");
  }
}
