// The server's answers about recordings and stretches of time, and to statements.

import type { Card } from "./data";

export interface SeriesAnswer {
  from: number;
  to: number;
  step: number;
  /** Length of the rate's windows. */
  fps_window_s?: number;
  /** Stretches in which nothing was captured; null: rows are dense, pixels without are a gap. */
  gaps?: [number, number][] | null;
  series: Record<
    string,
    { min: (number | null)[]; max: (number | null)[]; mean: (number | null)[] }
  >;
}

export interface Mark {
  t: number;
  i: number;
  count: number;
  /** The first one, in words. */
  text?: string;
  /** When it ended, if it took time. */
  to?: number;
  /** For drops: where frames were lost. */
  place?: string;
}

export type MarkKind = "differences" | "drops" | "gaps" | "late" | "events" | "alerts";
export type MarksAnswer = Partial<Record<MarkKind, Mark[]>>;

export type Cell = string | number | boolean | null | Cell[] | { [name: string]: Cell };

export interface SqlAnswer {
  columns: { name: string; type: string; numeric: boolean }[];
  rows: Cell[][];
  /** For answers with frames: position and time of each row's; null: not in this recording. */
  places?: ([number, number | null] | null)[];
  truncated: boolean;
  elapsed_ms: number;
  frame_column: number | null;
  error?: string;
}

export interface Matches {
  from: number;
  to: number;
  keep: Record<string, number[]>;
}

export interface Question {
  name: string;
  text: string;
  sql: string;
  /** The view or macro that it uses. */
  definition: string;
}

export interface Why {
  findings: string[];
  caveats: string[];
  tables: { title: string; columns: string[]; numeric: boolean[]; rows: string[][] }[];
}

/** A recording's positions have changed: everything on the page that has positions has to move. */
export interface Move {
  before: Card;
  /** Where the frame shown is now, or the nearest one that is left. */
  position: number;
}

export interface SessionFacts {
  s: string;
  path: string;
  state: string;
  started_at: string | null;
  duration_s: number | null;
  frames: number | null;
  detections: number | null;
  fps: number | null;
  dropped: number | null;
  model: string | null;
  source: string | null;
  bytes: number | null;
  video_bytes: number | null;
  problem: string | null;
}
