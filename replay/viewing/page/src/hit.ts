// The detection under the pointer.
import { keepAll, type DrawnFrame, type Keep, type MaskOp, type Op } from "./drawing";

/** A point or a line is hit within this distance, in frame pixels. */
const NEAR = 4;

/**
 * Return the index of the detection at a place in the frame's pixels, the smallest one of several;
 * -1: none.
 */
export function hit(frame: DrawnFrame, x: number, y: number, keep: Keep = keepAll, near = NEAR): number {
  const found = new Map<number, { isHit: boolean; area: number }>();
  for (const layer of frame.layers) {
    for (const { d, ops } of layer.groups) {
      if (d < 0 || !keep(d)) continue;
      let entry = found.get(d);
      if (!entry) found.set(d, (entry = { isHit: false, area: Infinity }));
      for (const op of ops) {
        const isHit = isIn(op, x, y, near);
        entry.isHit ||= isHit;
        // Labels, points and lines are pointed at on purpose, whatever is around them.
        entry.area = Math.min(entry.area, isHit && isThin(op) ? 0 : areaOf(op));
      }
    }
  }
  let best = -1;
  let least = Infinity;
  for (const [d, { isHit, area }] of found) {
    if (isHit && (best < 0 || area <= least)) [best, least] = [d, area];
  }
  return best;
}

function isIn(op: Op, x: number, y: number, near: number): boolean {
  switch (op[0]) {
    case "box": {
      const margin = op[5] / 2;
      const [left, right] = [Math.min(op[1], op[3]) - margin, Math.max(op[1], op[3]) + margin];
      const [top, bottom] = [Math.min(op[2], op[4]) - margin, Math.max(op[2], op[4]) + margin];
      return x >= left && x <= right + 1 && y >= top && y <= bottom + 1;
    }
    case "fill":
      return x >= op[1] && x <= op[3] + 1 && y >= op[2] && y <= op[4] + 1;
    case "text":
      return x >= op[1] && x <= op[1] + op[3] && y >= op[2] && y <= op[2] + op[4];
    case "circle":
      return Math.hypot(x - op[1], y - op[2]) <= op[3] + near;
    case "line":
      return toLine(x, y, op[1], op[2], op[3], op[4]) <= op[5] / 2 + near;
    case "poly":
      return op[1] ? isInPolygon(op[4], x, y) : false;
    case "mask":
      return isInMask(op, x, y);
    default:
      return false;
  }
}

function isThin(op: Op): boolean {
  return op[0] === "text" || op[0] === "circle" || op[0] === "line";
}

/** The area of a shape that can be clicked inside; infinite for others. */
function areaOf(op: Op): number {
  switch (op[0]) {
    case "box":
      return Math.abs((op[3] - op[1]) * (op[4] - op[2]));
    case "poly":
      return op[1] ? polygonArea(op[4]) : Infinity;
    case "mask":
      return op[3] * op[4];
    default:
      return Infinity;
  }
}

function toLine(x: number, y: number, x1: number, y1: number, x2: number, y2: number): number {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const length = dx * dx + dy * dy;
  const at = length ? Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / length)) : 0;
  return Math.hypot(x - x1 - at * dx, y - y1 - at * dy);
}

function isInPolygon(points: readonly number[], x: number, y: number): boolean {
  let isInside = false;
  for (let at = 0, last = points.length - 2; at + 1 < points.length; last = at, at += 2) {
    const [x1, y1] = [points[at] ?? 0, points[at + 1] ?? 0];
    const [x2, y2] = [points[last] ?? 0, points[last + 1] ?? 0];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) isInside = !isInside;
  }
  return isInside;
}

function polygonArea(points: readonly number[]): number {
  let area = 0;
  for (let at = 0, last = points.length - 2; at + 1 < points.length; last = at, at += 2) {
    area += (points[last] ?? 0) * (points[at + 1] ?? 0) - (points[at] ?? 0) * (points[last + 1] ?? 0);
  }
  return Math.abs(area) / 2;
}

function isInMask(op: MaskOp, x: number, y: number): boolean {
  const column = Math.floor(((x - op[1]) / op[3]) * op[5]);
  const row = Math.floor(((y - op[2]) / op[4]) * op[6]);
  if (column < 0 || row < 0 || column >= op[5] || row >= op[6]) return false;
  let left = row * op[5] + column;
  let isInside = false;
  for (const run of op[7]) {
    left -= run;
    if (left < 0) return isInside;
    isInside = !isInside;
  }
  return false;
}

