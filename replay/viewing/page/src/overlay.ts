// Repeat what PySDK's overlay code drew.

import type { DrawnFrame } from "./data";
import type { Filter } from "./state";

/** Draw in pixels of the frame; the context's transform brings them to the screen. */
export function drawOverlay(
  context: CanvasRenderingContext2D,
  frame: DrawnFrame,
  filter: Filter,
): void {
  for (const { d, ops } of frame.items) {
    for (const op of ops) {
      if (op[0] !== "box" || (d < 0 && filter.score > 0)) continue;
      const [, x1, y1, x2, y2, width, color] = op;
      context.lineWidth = width;
      context.strokeStyle = `rgb(${color.join(" ")})`;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
  }
}
