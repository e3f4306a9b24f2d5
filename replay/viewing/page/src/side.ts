// Beside the picture: the recording's facts, the labels to filter by, what was recorded of a detection.

import type { Session } from "./data";
import type { Keys } from "./keys";
import type { State } from "./state";

export class SidePanel {
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
