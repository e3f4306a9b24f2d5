// The page says that it is open.

import type { Source } from "./data";

/** How often. */
const OPEN_MS = 30_000;

/** Say that this page is open, for as long as it is: a server may wait for that. */
export function sayOpen(source: Source): void {
  const id = String(Math.random()).slice(2);
  const say = (closed: 0 | 1) => {
    source.tell("api/page", { id, closed });
  };
  say(0);
  window.setInterval(() => { say(0); }, OPEN_MS);
  window.addEventListener("pagehide", () => { say(1); });
  window.addEventListener("pageshow", () => { say(0); });
}
