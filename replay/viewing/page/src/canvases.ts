// Canvases and styles that are kept from frame to frame.
import { ERASED, type Color, type MapOp, type MaskOp, type Op } from "./drawing";

const FONT = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';

const bitmaps = new WeakMap<Op, HTMLCanvasElement>();

export function bitmapOf(op: MaskOp | MapOp, colors: readonly Color[]): HTMLCanvasElement {
  let bitmap = bitmaps.get(op);
  if (!bitmap) {
    bitmap = document.createElement("canvas");
    [bitmap.width, bitmap.height] = [op[5], op[6]];
    const image = new ImageData(op[5], op[6]);
    const pixels = new Uint32Array(image.data.buffer);
    let at = 0;
    for (const [index, run] of op[7].entries()) {
      const number = op[0] === "map" ? op[8][index] ?? ERASED : index % 2 ? op[8] : null;
      const end = at + run;
      // An erasing mask needs pixels, of any color; a map's part without color has none.
      if (number !== null && !(op[0] === "map" && number === ERASED)) {
        pixels.fill(packed(colors[number] ?? [0, 0, 0]), at, end);
      }
      at = end;
    }
    bitmap.getContext("2d")?.putImageData(image, 0, 0);
    bitmaps.set(op, bitmap);
  }
  return bitmap;
}

const pixel = new Uint32Array(1);
const bytes = new Uint8Array(pixel.buffer);

function packed([red, green, blue]: Color): number {
  bytes.set([red, green, blue, 255]);
  return pixel[0] ?? 0;
}

const styles = new WeakMap<readonly Color[], readonly string[]>();

export function cssColors(colors: readonly Color[]): readonly string[] {
  let known = styles.get(colors);
  if (!known) {
    known = colors.map(css);
    styles.set(colors, known);
  }
  return known;
}

export function css([red, green, blue]: Color): string {
  return `rgb(${red}, ${green}, ${blue})`;
}

const fonts = new Map<number, string>();

export function fontOf(size: number): string {
  let known = fonts.get(size);
  if (known === undefined) {
    if (fonts.size > 1000) fonts.clear();
    known = `${size}px ${FONT}`;
    fonts.set(size, known);
  }
  return known;
}

export type ScratchName = "layer" | "masks" | "blur";
const scratches = new Map<ScratchName, CanvasRenderingContext2D>();

/** Return an empty canvas of at least this size; it is reused. */
export function scratch(name: ScratchName, width: number, height: number): CanvasRenderingContext2D {
  let on = scratches.get(name);
  if (!on) {
    const made = document.createElement("canvas").getContext("2d");
    if (!made) throw new Error("the browser gives no canvas");
    on = made;
    scratches.set(name, on);
  }
  const { canvas } = on;
  if (canvas.width < width || canvas.height < height) {
    canvas.width = Math.max(canvas.width, width);
    canvas.height = Math.max(canvas.height, height);
  }
  on.setTransform(1, 0, 0, 1, 0, 0);
  on.globalAlpha = 1;
  on.globalCompositeOperation = "source-over";
  on.clearRect(0, 0, canvas.width, canvas.height);
  return on;
}

export function sizeOf(picture: CanvasImageSource): [number, number] {
  if (picture instanceof HTMLVideoElement) return [picture.videoWidth, picture.videoHeight];
  if (picture instanceof HTMLImageElement) return [picture.naturalWidth, picture.naturalHeight];
  if ("displayWidth" in picture) return [picture.displayWidth, picture.displayHeight];
  if (picture instanceof SVGImageElement) return [0, 0];
  return [picture.width, picture.height];
}
