// What is said of a recording in progress.

/** The frame that is recorded now, with its overlay. */
export interface Moment {
  picture: ImageBitmap;
  /** When it was captured, in microseconds since 1970. */
  captured: number;
  /** How long ago that was when it was sent. */
  age_ms: number;
}

export interface Growth {
  n: number;
  first_frame: number | null;
  version: string | number;
}

export interface Alert {
  name: string | null;
  rule: string | null;
  t: number | null;
  i: number | null;
}

export interface Target {
  target: string;
  frames: number | null;
  delivered: number | null;
  left_out: number | null;
  /** Frames in its queue; null: not known. */
  waiting: number | null;
  problem: string;
}

/** What is said of a recording in progress, as it happens. */
export interface Happenings {
  grew(growth: Growth): void;
  alert(alert: Alert): void;
  targets(targets: Target[]): void;
  ended(growth: Growth): void;
  problem(problem: { error: string }): void;
  /** Whether the server is there. */
  connected(isConnected: boolean): void;
}
