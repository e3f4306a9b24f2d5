// Which detections are drawn: the labels with their colors, and the least score.
import type { Drawing, Keep } from "./drawing";
import type { Filter } from "./state";

/**
 * Return which detections of a frame a filter keeps.
 *
 * `matches`: those of its condition in SQL; null: there is none; undefined: not known yet.
 */
export function keepOf(
  drawing: Drawing,
  filter: Filter,
  matches?: ReadonlySet<number> | null,
): Keep {
  const { frame, labels } = drawing;
  const { hidden, score } = filter;
  return (detection) => {
    if (matches !== null && !matches?.has(detection)) return false;
    const label = labels[frame.labels[detection] ?? -1];
    if (label !== undefined && hidden.has(label)) return false;
    const own = frame.scores[detection];
    return score <= 0 || own === null || own === undefined || own >= score;
  };
}
