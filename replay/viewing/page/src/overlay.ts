// Draws over a frame's picture: the server's operations, repeated on a canvas.
import { bitmapOf, css, cssColors, fontOf, scratch, sizeOf, type ScratchName } from "./canvases";
import {
  ERASED,
  keepAll,
  type BlurOp,
  type Color,
  type DrawnFrame,
  type DrawnGroup,
  type DrawnLayer,
  type Drawing,
  type Keep,
  type Op,
  type TextOp,
  type Track,
} from "./drawing";

export { hit } from "./hit";

export interface OverlayOptions {
  /** Which detections are drawn; by default all. */
  readonly keep?: Keep | undefined;
  /** The detection that is emphasized. */
  readonly selected?: number | undefined;
  /** The color that it is emphasized in. */
  readonly accent?: string | undefined;
  /** The frame's picture, which blurred regions need; without it they are covered. */
  readonly picture?: CanvasImageSource | undefined;
  /** The frames before, the last one first, for the trails of tracks; by default no trails. */
  readonly before?: readonly Drawing[] | undefined;
  /** Least height of letters, in pixels of the canvas. */
  readonly leastText?: number | undefined;
  /** Where the frame is on the canvas; by default it fills it. */
  readonly place?: Place | undefined;
}

/** A frame's place on a canvas, in canvas pixels, and the size of a frame pixel there. */
export interface Place {
  readonly x: number;
  readonly y: number;
  readonly scaleX: number;
  readonly scaleY: number;
}

/** Height of a capital letter as part of the font's size. */
const CAPITAL = 0.7;
const COVER = "rgb(64, 64, 64)";

/** Clear a canvas, and draw a frame's overlay on it. */
export function drawOverlay(
  context: CanvasRenderingContext2D,
  drawing: Drawing,
  options: OverlayOptions = {},
): void {
  const { canvas } = context;
  const { frame } = drawing;
  const { x, y, scaleX, scaleY } = options.place ?? {
    x: 0,
    y: 0,
    scaleX: canvas.width / frame.size[0],
    scaleY: canvas.height / frame.size[1],
  };
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalAlpha = 1;
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(scaleX, 0, 0, scaleY, x, y);
  if (frame.picture && frame.fill) drawRoom(context, frame.size, frame.picture, frame.fill);
  const painter = new Painter(context, drawing, options, Math.min(scaleX, scaleY));
  for (const layer of frame.layers) painter.layer(layer);
  if (options.before) painter.trails(options.before);
  if (options.selected !== undefined && options.selected >= 0) painter.emphasize(options.selected);
  context.setTransform(1, 0, 0, 1, 0, 0);
}

function drawRoom(
  context: CanvasRenderingContext2D,
  [width, height]: readonly [number, number],
  [pictureWidth, pictureHeight]: readonly [number, number],
  fill: Color,
): void {
  context.fillStyle = css(fill);
  context.fillRect(0, pictureHeight, width, height - pictureHeight);
  context.fillRect(pictureWidth, 0, width - pictureWidth, pictureHeight);
}

class Painter {
  private readonly context: CanvasRenderingContext2D;
  private readonly drawing: Drawing;
  private readonly options: OverlayOptions;
  private readonly keep: Keep;
  private readonly colors: readonly string[];
  private readonly scale: number;

  constructor(
    context: CanvasRenderingContext2D,
    drawing: Drawing,
    options: OverlayOptions,
    scale: number,
  ) {
    this.context = context;
    this.drawing = drawing;
    this.options = options;
    this.keep = options.keep ?? keepAll;
    this.colors = cssColors(drawing.colors);
    this.scale = scale;
  }

  layer(layer: DrawnLayer): void {
    const needs = needsOf(layer);
    if (needs.masks) this.blended("masks", needs.masksAlpha, (on) => { this.masks(on, layer); });
    if (needs.own) this.blended("layer", layer.alpha, (on) => { this.groups(on, layer.groups); });
    else this.groups(this.context, layer.groups);
  }

  /** Paint on a canvas of its own, then put that over the picture. */
  private blended(
    name: ScratchName,
    alpha: number,
    paint: (on: CanvasRenderingContext2D) => void,
  ): void {
    const { context } = this;
    const { width, height } = context.canvas;
    const on = scratch(name, width, height);
    on.setTransform(context.getTransform());
    paint(on);
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = alpha;
    context.drawImage(on.canvas, 0, 0, width, height, 0, 0, width, height);
    context.restore();
  }

  private groups(on: CanvasRenderingContext2D, groups: readonly DrawnGroup[]): void {
    on.textBaseline = "alphabetic";
    on.textAlign = "left";
    for (const group of groups) {
      if (group.d >= 0 && !this.keep(group.d)) continue;
      for (const op of group.ops) this.paint(on, op);
    }
  }

  private masks(on: CanvasRenderingContext2D, layer: DrawnLayer): void {
    on.imageSmoothingEnabled = this.scale < 1;
    for (const group of layer.groups) {
      if (group.d >= 0 && !this.keep(group.d)) continue;
      for (const op of group.ops) {
        if (op[0] !== "mask" && op[0] !== "map") continue;
        const isErased = op[0] === "mask" && op[8] === ERASED;
        on.globalCompositeOperation = isErased ? "destination-out" : "source-over";
        on.drawImage(bitmapOf(op, this.drawing.colors), op[1], op[2], op[3], op[4]);
      }
    }
  }

  private paint(on: CanvasRenderingContext2D, op: Op): void {
    switch (op[0]) {
      case "box":
      case "line":
        this.stroked(on, op[6], op[5]);
        outline(on, op);
        on.stroke();
        break;
      case "poly":
        this.stroked(on, op[3], op[2]);
        outline(on, op);
        on.stroke();
        break;
      case "fill":
        this.filled(on, op[5]);
        on.fillRect(op[1], op[2], op[3] - op[1] + 1, op[4] - op[2] + 1);
        break;
      case "circle":
        if (op[4] > 0) this.stroked(on, op[5], op[4]);
        else this.filled(on, op[5]);
        outline(on, op);
        if (op[4] > 0) on.stroke();
        else on.fill();
        break;
      case "text":
        this.text(on, op);
        break;
      case "blur":
        this.blur(on, op);
        break;
      case "mask":
      case "map":
        break; // on their own layer
    }
  }

  private stroked(on: CanvasRenderingContext2D, color: number, width: number): void {
    on.globalCompositeOperation = color === ERASED ? "destination-out" : "source-over";
    on.strokeStyle = this.colors[color] ?? "#000";
    // A line stays visible on a canvas that is much smaller than the frame.
    on.lineWidth = Math.max(width, 1 / this.scale);
    on.lineCap = width > 1 ? "round" : "square";
    on.lineJoin = width > 1 ? "round" : "miter";
  }

  private filled(on: CanvasRenderingContext2D, color: number): void {
    on.globalCompositeOperation = color === ERASED ? "destination-out" : "source-over";
    on.fillStyle = this.colors[color] ?? "#000";
  }

  private text(on: CanvasRenderingContext2D, op: TextOp): void {
    const least = (this.options.leastText ?? 0) / this.scale;
    const larger = op[11] > 0 && op[11] < least ? least / op[11] : 1;
    // A label grows from its lower left corner, but not beyond the edges.
    const left = Math.max(0, Math.min(op[1], this.drawing.frame.size[0] - op[3] * larger));
    const top = Math.max(0, op[2] - op[4] * (larger - 1));
    if (larger === 1) {
      this.line(on, op, op[1], op[2], 1);
    } else {
      this.line(on, op, left, top, larger);
    }
  }

  private line(
    on: CanvasRenderingContext2D,
    op: TextOp,
    x: number,
    y: number,
    larger: number,
  ): void {
    if (op[7] !== ERASED) {
      this.filled(on, op[7]);
      on.fillRect(x, y, op[3] * larger, op[4] * larger);
    }
    this.filled(on, op[6]);
    const size = Math.max(1, (op[11] * larger) / CAPITAL);
    const font = fontOf(size);
    if (on.font !== font) on.font = font;
    // Never wider than in OpenCV's letters.
    const base = y + (op[9] - op[2]) * larger;
    on.fillText(op[5], x + (op[8] - op[1]) * larger, base, Math.max(1, op[10] * larger));
  }

  private blur(on: CanvasRenderingContext2D, op: BlurOp): void {
    const [x, y, width, height] = [op[1], op[2], op[3] - op[1], op[4] - op[2]];
    on.globalCompositeOperation = "source-over";
    // Covered first: nothing shines through where the picture cannot be read.
    on.fillStyle = COVER;
    on.fillRect(x, y, width, height);
    const { picture } = this.options;
    const [pictureWidth, pictureHeight] = picture ? sizeOf(picture) : [0, 0];
    if (!picture || !pictureWidth || !pictureHeight) return;
    const frame = this.drawing.frame.picture ?? this.drawing.frame.size;
    const [kx, ky] = [pictureWidth / frame[0], pictureHeight / frame[1]];
    // Scaled down by the size of the kernel and up again, with the pixels around it.
    const columns = Math.max(1, Math.round(width / op[5]));
    const rows = Math.max(1, Math.round(height / op[6]));
    const [right, below] = [width / columns, height / rows];
    const small = scratch("blur", columns + 2, rows + 2);
    small.imageSmoothingQuality = "high";
    small.setTransform(1 / (kx * right), 0, 0, 1 / (ky * below), 1 - x / right, 1 - y / below);
    small.drawImage(picture, 0, 0);
    on.imageSmoothingEnabled = true;
    on.drawImage(small.canvas, 1, 1, columns, rows, x, y, width, height);
  }

  /** Draw the path of each track's center, as `dgrec replay --trails` does. */
  trails(before: readonly Drawing[]): void {
    const { context: on, drawing } = this;
    const [width, height] = drawing.frame.size;
    const thickness = Math.max(2, Math.round(Math.min(width, height) / 240));
    for (const track of drawing.frame.tracks ?? []) {
      if (!this.keep(track[0])) continue;
      this.stroked(on, track[2], thickness);
      on.beginPath();
      on.moveTo(track[3] + 0.5, track[4] + 0.5);
      for (const { frame } of before) {
        const earlier = tracksOf(frame).get(track[1]);
        if (earlier) on.lineTo(earlier[3] + 0.5, earlier[4] + 0.5);
      }
      on.stroke();
      this.filled(on, track[2]);
      on.beginPath();
      on.arc(track[3] + 0.5, track[4] + 0.5, 1.5 * thickness, 0, 2 * Math.PI);
      on.fill();
    }
  }

  /** Draw a detection again, above all others, with a rim. */
  emphasize(selected: number): void {
    const { context: on } = this;
    const rims: readonly [string, number][] = [
      ["rgba(0, 0, 0, 0.6)", 7 / this.scale],
      [this.options.accent ?? "#fff", 4 / this.scale],
    ];
    const layers = this.drawing.frame.layers;
    if (!this.keep(selected)) return;
    for (const [color, width] of rims) {
      for (const op of opsOf(layers, selected)) {
        if (!outline(on, op)) continue;
        this.stroked(on, 0, lineWidth(op) + width);
        on.strokeStyle = color;
        on.stroke();
      }
    }
    for (const op of opsOf(layers, selected)) if (op[0] !== "blur") this.paint(on, op);
  }
}

function* opsOf(layers: readonly DrawnLayer[], detection: number): Generator<Op> {
  for (const layer of layers) {
    for (const group of layer.groups) if (group.d === detection) yield* group.ops;
  }
}

/** Begin the path of a shape, through the middle of its pixels; false if it is not a line. */
function outline(on: CanvasRenderingContext2D, op: Op): boolean {
  switch (op[0]) {
    case "box":
      on.beginPath();
      on.rect(op[1] + 0.5, op[2] + 0.5, op[3] - op[1], op[4] - op[2]);
      return true;
    case "line":
      on.beginPath();
      on.moveTo(op[1] + 0.5, op[2] + 0.5);
      on.lineTo(op[3] + 0.5, op[4] + 0.5);
      return true;
    case "poly": {
      const points = op[4];
      on.beginPath();
      for (let at = 0; at + 1 < points.length; at += 2) {
        on.lineTo((points[at] ?? 0) + 0.5, (points[at + 1] ?? 0) + 0.5);
      }
      if (op[1]) on.closePath();
      return true;
    }
    case "circle":
      on.beginPath();
      on.arc(op[1] + 0.5, op[2] + 0.5, op[4] > 0 ? op[3] : op[3] + 0.5, 0, 2 * Math.PI);
      return true;
    default:
      return false;
  }
}

function lineWidth(op: Op): number {
  if (op[0] === "box" || op[0] === "line") return op[5];
  if (op[0] === "poly") return op[2];
  return op[0] === "circle" ? op[4] : 0;
}

/** Whether an analyzer drew trails: open lines of no detection. */
export function hasTrails(frame: DrawnFrame): boolean {
  return frame.layers.some(({ groups }) =>
    groups.some(({ d, ops }) => d < 0 && ops.some((op) => op[0] === "poly" && !op[1])),
  );
}

// --- kept between frames ---

interface Needs {
  /** Whether it needs a canvas of its own. */
  own: boolean;
  masks: boolean;
  masksAlpha: number;
}

const needs = new WeakMap<DrawnLayer, Needs>();

function needsOf(layer: DrawnLayer): Needs {
  let known = needs.get(layer);
  if (!known) {
    known = { own: layer.alpha < 1, masks: false, masksAlpha: 1 };
    for (const { ops } of layer.groups) for (const op of ops) look(op, known);
    needs.set(layer, known);
  }
  return known;
}

function look(op: Op, known: Needs): void {
  switch (op[0]) {
    case "mask":
    case "map":
      known.masks = true;
      known.masksAlpha = op[9];
      break;
    case "box":
    case "line":
      known.own ||= op[6] === ERASED;
      break;
    case "poly":
      known.own ||= op[3] === ERASED;
      break;
    case "circle":
    case "fill":
      known.own ||= op[5] === ERASED;
      break;
    case "text":
      known.own ||= op[6] === ERASED;
      break;
    case "blur":
      break;
  }
}

const tracks = new WeakMap<DrawnFrame, Map<number | string, Track>>();

function tracksOf(frame: DrawnFrame): Map<number | string, Track> {
  let known = tracks.get(frame);
  if (!known) {
    known = new Map((frame.tracks ?? []).map((track) => [track[1], track]));
    tracks.set(frame, known);
  }
  return known;
}
