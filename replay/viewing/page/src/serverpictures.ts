// Pictures that the server decodes: for browsers that cannot, and for footage that stays where it is.

import type { Row, Session } from "./data";
import type { Picture, Pictures } from "./pictures";

/** Pictures loaded ahead while playing. */
const AHEAD = 6;
const WIDEST = 1920;

export class ServerPictures implements Pictures {
  private readonly abort = new AbortController();
  private readonly loading = new Map<number, Promise<ImageBitmap>>();

  constructor(private readonly session: Session) {}

  async picture(row: Row): Promise<Picture> {
    const loaded = this.load(row.i);
    // It belongs to the caller, and is not closed when others are prepared.
    this.loading.delete(row.i);
    const bitmap = await loaded;
    return {
      draw: (context, width, height) => {
        context.drawImage(bitmap, 0, 0, width, height);
      },
      close: () => {
        bitmap.close();
      },
    };
  }

  prepare(rows: readonly Row[]): void {
    const wanted = rows.slice(0, AHEAD);
    for (const [i, promise] of this.loading) {
      if (wanted.some((row) => row.i === i)) continue;
      this.loading.delete(i);
      promise.then(
        (bitmap) => {
          bitmap.close();
        },
        () => undefined,
      );
    }
    for (const row of wanted) this.load(row.i).catch(() => undefined);
  }

  refresh(): void {
    this.prepare([]);
  }

  close(): void {
    this.prepare([]);
    this.abort.abort();
  }

  private load(i: number): Promise<ImageBitmap> {
    let promise = this.loading.get(i);
    if (!promise) {
      const width = this.session.card.width > WIDEST ? WIDEST : undefined;
      promise = this.session.picture(i, width, this.abort.signal);
      this.loading.set(i, promise);
      promise.catch(() => {
        if (this.loading.get(i) === promise) this.loading.delete(i);
      });
    }
    return promise;
  }
}
