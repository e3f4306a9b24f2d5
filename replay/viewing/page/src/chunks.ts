// A list that is loaded in parts.

/** Parts of a long list, loaded as they are needed; the least recently used ones are removed. */
export class Chunks<T> {
  private readonly parts = new Map<number, T[]>();
  private readonly pending = new Map<number, Promise<T[]>>();

  constructor(
    private readonly size: number,
    private readonly kept: number,
    private readonly fetchPart: (from: number, to: number) => Promise<T[]>,
  ) {}

  get(i: number): T | undefined {
    return this.parts.get(Math.floor(i / this.size))?.[i % this.size];
  }

  async load(i: number): Promise<T | undefined> {
    const part = Math.floor(i / this.size);
    const known = this.parts.get(part);
    if (known && i % this.size < known.length) {
      this.parts.delete(part); // used last, removed last
      this.parts.set(part, known);
      return known[i % this.size];
    }
    const pending = this.pending.get(part);
    let values = await (pending ?? this.begin(part));
    // A part that was asked for before the recording grew ends too early.
    if (pending && i % this.size >= values.length) values = await (this.pending.get(part) ?? this.begin(part));
    return values[i % this.size];
  }

  private begin(part: number): Promise<T[]> {
    const from = part * this.size;
    const first = this.parts.get(part) ?? [];
    const promise = this.fetchPart(from + first.length, from + this.size).then((more) => {
      const values = [...first, ...more];
      if (this.pending.get(part) === promise) this.parts.set(part, values);
      for (const oldest of this.parts.keys()) {
        if (this.parts.size <= this.kept) break;
        this.parts.delete(oldest);
      }
      return values;
    });
    this.pending.set(part, promise);
    const done = () => {
      if (this.pending.get(part) === promise) this.pending.delete(part);
    };
    promise.then(done, done);
    return promise;
  }

  clear(): void {
    this.parts.clear();
    this.pending.clear();
  }

  /** The list grew: its end is loaded again from a position on, as neighbours are new. */
  grew(from: number): void {
    const part = Math.floor(from / this.size);
    const known = this.parts.get(part);
    if (known) this.parts.set(part, known.slice(0, from % this.size));
    this.pending.delete(part); // it may have old values
    for (const later of [...this.parts.keys()]) if (later > part) this.parts.delete(later);
  }
}
