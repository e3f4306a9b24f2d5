// The picture with its overlay, and the controls below it.

import type { Session } from "./data";
import type { Keys } from "./keys";
import type { State } from "./state";

export class Player {
  constructor(
    private readonly element: HTMLElement,
    readonly session: Session,
    readonly state: State,
    readonly keys: Keys,
  ) {}

  close(): void {
    this.element.replaceChildren();
  }
}
