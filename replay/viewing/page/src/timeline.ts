// The lines and marks below the picture.

import type { Session } from "./data";
import type { Keys } from "./keys";
import type { State } from "./state";

export class Timeline {
  constructor(
    private readonly element: HTMLElement,
    readonly session: Session,
    readonly state: State,
    readonly keys: Keys,
  ) {}

  /** Remove everything that this has put on the page, and its listeners. */
  close(): void {
    this.element.replaceChildren();
  }
}
