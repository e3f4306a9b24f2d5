// The recordings that the server has.

import type { Source } from "./data";
import type { Keys } from "./keys";
import type { State } from "./state";

export class ListPage {
  constructor(
    private readonly element: HTMLElement,
    readonly source: Source,
    readonly state: State,
    readonly keys: Keys,
  ) {}

  close(): void {
    this.element.replaceChildren();
  }
}
