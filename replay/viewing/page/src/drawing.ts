// Overlays of frames, as the server describes them.

export type Color = readonly [number, number, number];

/** Operations, in pixels of the frame; `dgrec/overlay/operations.py` says what their values are. */
export type Op =
  | readonly ["box", x1: number, y1: number, x2: number, y2: number, width: number, color: number]
  | readonly ["fill", x1: number, y1: number, x2: number, y2: number, color: number]
  | readonly ["line", x1: number, y1: number, x2: number, y2: number, width: number, color: number]
  | readonly ["poly", closed: number, width: number, color: number, points: readonly number[]]
  | readonly ["circle", x: number, y: number, radius: number, width: number, color: number]
  | TextOp
  | MaskOp
  | MapOp
  | BlurOp;

export type TextOp = readonly [
  "text",
  x: number,
  y: number,
  width: number,
  height: number,
  text: string,
  color: number,
  background: number,
  left: number,
  base: number,
  textWidth: number,
  letterHeight: number,
];
type Bitmap = [x: number, y: number, width: number, height: number, columns: number, rows: number];
export type MaskOp = readonly ["mask", ...Bitmap, runs: readonly number[], color: number, alpha: number];
export type MapOp = readonly [
  "map",
  ...Bitmap,
  runs: readonly number[],
  colors: readonly number[],
  alpha: number,
];
export type BlurOp = readonly [
  "blur",
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  kernelWidth: number,
  kernelHeight: number,
];

/** Operations of one detection, by its index; -1: of none. */
export interface DrawnGroup {
  readonly d: number;
  readonly ops: readonly Op[];
}

export interface DrawnLayer {
  readonly alpha: number;
  readonly groups: readonly DrawnGroup[];
}

export type Track = readonly [d: number, track: number | string, color: number, x: number, y: number];

/** The overlay of one frame. */
export interface DrawnFrame {
  readonly size: readonly [number, number];
  /** The size of the picture, if the drawing is larger, such as by labels below it. */
  readonly picture?: readonly [number, number];
  /** The color around it. */
  readonly fill?: Color;
  readonly layers: readonly DrawnLayer[];
  /** For each detection: the index of its label, or -1. */
  readonly labels: readonly number[];
  readonly scores: readonly (number | null)[];
  readonly tracks?: readonly Track[];
  /** The run of the recorder, if it is not the first: in each, trackers begin anew. */
  readonly run?: number;
  /** What is left out. */
  readonly notes?: readonly string[];
}

/** A frame, and the colors and labels of the answer that it came with. */
export interface Drawing {
  readonly colors: readonly Color[];
  readonly labels: readonly string[];
  readonly frame: DrawnFrame;
}

/** The answer of `/api/overlay`: fewer frames than asked for where they are large. */
export interface OverlayAnswer {
  readonly from: number;
  readonly colors: readonly Color[];
  readonly labels: readonly string[];
  readonly frames: readonly DrawnFrame[];
}

/** A color that removes what was drawn before. */
export const ERASED = -1;

/** Which detections are drawn. */
export type Keep = (detection: number) => boolean;

export const keepAll: Keep = () => true;
