// Pictures decoded on the page: WebCodecs, with mediabunny as the reader of containers.

import {
  EncodedPacketSink,
  Input,
  MATROSKA,
  MP4,
  QTFF,
  UrlSource,
  VideoSampleSink,
  WEBM,
  type VideoSample,
} from "mediabunny";
import { Problem, type Row, type Session, type VideoFacts } from "./data";
import { tolerance, type Picture, type Pictures } from "./pictures";
import { codecName } from "./words";

/** A request further ahead than this is a seek, in seconds and in pictures. */
const NEAR_S = 2;
const NEAR_PICTURES = 100;
/** Decoded pictures kept for steps back; each may hold memory of the graphics card. */
const KEPT = 4;
/** Files open at a time: parts of long recordings. */
const OPEN = 3;
const CACHE_BYTES = 24 << 20;

export class WebCodecsPictures implements Pictures {
  private readonly readers = new Map<number, Promise<Reader>>();

  constructor(private readonly session: Session) {}

  static isAvailable(): boolean {
    return window.isSecureContext && "VideoDecoder" in window;
  }

  async picture(row: Row): Promise<Picture> {
    const reader = await this.reader(row.video);
    return reader.picture(row.pts_s ?? 0, row.duration_s ?? 0.04, tolerance(row));
  }

  prepare(rows: readonly Row[]): void {
    // The file of the next part is opened ahead.
    for (const { video } of rows.slice(-1)) this.reader(video).catch(() => undefined);
  }

  refresh(): void {
    this.close();
  }

  close(): void {
    for (const reader of this.readers.values()) closeLater(reader);
    this.readers.clear();
  }

  private reader(k: number): Promise<Reader> {
    const known = this.readers.get(k);
    if (known) {
      this.readers.delete(k);
      this.readers.set(k, known);
      return known;
    }
    const facts = this.session.card.videos.find((video) => video.k === k);
    if (!facts) return Promise.reject(new Problem("the recording has no such video"));
    const made = this.session.videoAddress(k).then((address) => Reader.open(address, facts));
    this.readers.set(k, made);
    for (const [oldest, reader] of this.readers) {
      if (this.readers.size <= OPEN) break;
      closeLater(reader);
      this.readers.delete(oldest);
    }
    return made;
  }
}

function closeLater(reader: Promise<Reader>): void {
  reader.then(
    (opened) => {
      opened.close();
    },
    () => undefined,
  );
}

/** Pictures of one file. It stays where the last one was, so that the next ones are decoded already. */
class Reader {
  private samples: AsyncGenerator<VideoSample, void, unknown> | null = null;
  /** Decoded, but later than what was asked for. */
  private early: VideoSample | null = null;
  private recent: VideoSample[] = [];
  private last = Infinity;
  private turn: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly input: Input,
    private readonly sink: VideoSampleSink,
    private readonly packets: EncodedPacketSink,
  ) {}

  static async open(address: string, facts: VideoFacts): Promise<Reader> {
    const input = new Input({
      formats: [MP4, QTFF, MATROSKA, WEBM],
      source: new UrlSource(address, {
        requestInit: { credentials: "same-origin" },
        maxCacheSize: CACHE_BYTES,
        getRetryDelay: (attempts) => (attempts < 3 ? 0.3 * 2 ** attempts : null),
        handleUnhandledError: () => undefined,
      }),
    });
    try {
      const track = await input.getPrimaryVideoTrack();
      if (!track) throw new Problem("the file has no video that mediabunny reads");
      if (!(await track.canDecode())) {
        throw new Problem(`this browser does not decode ${codecName(facts.codec)}`);
      }
      return new Reader(input, new VideoSampleSink(track), new EncodedPacketSink(track));
    } catch (error) {
      input.dispose();
      throw error;
    }
  }

  /** One after the other: they share the position in the file. */
  picture(pts: number, duration: number, within: number): Promise<Picture> {
    const found = this.turn.then(() => this.find(pts, duration, within));
    this.turn = found.catch(() => undefined);
    return found.then(
      (sample) => ({
        draw: (context, width, height) => {
          sample.draw(context, 0, 0, width, height);
        },
        close: () => {
          sample.close();
        },
      }),
    );
  }

  close(): void {
    void this.turn.then(() => {
      this.rewind();
      this.input.dispose();
    });
    // Stop decoding what nothing needs any more.
    void this.samples?.return();
  }

  private async find(pts: number, duration: number, within: number): Promise<VideoSample> {
    const kept = this.recent.find((sample) => Math.abs(sample.timestamp - pts) <= within);
    if (kept) return kept.clone();
    const step = Math.max(duration, 0.001);
    const ahead = pts - this.last;
    if (!this.samples || ahead <= 0 || ahead > Math.max(NEAR_S, step * 2)) {
      // Steps back come in series: keep some of the pictures before this one.
      const back = ahead < 0 && ahead > -NEAR_S ? step * KEPT : 0;
      this.rewind();
      this.samples = this.sink.samples(Math.max(pts - back - within, -1e6));
    }
    for (let passed = 0; ; passed++) {
      const sample = await this.next();
      if (!sample) throw await this.ending(pts);
      this.last = sample.timestamp;
      if (sample.timestamp > pts + within) {
        this.early = sample;
        this.last = pts;
        throw new Problem(`the video has no picture at ${pts.toFixed(4)} s`);
      }
      this.keep(sample);
      if (sample.timestamp >= pts - within) return sample.clone();
      if (passed > NEAR_PICTURES && pts - sample.timestamp > NEAR_S) {
        this.rewind();
        this.samples = this.sink.samples(pts - within);
        passed = 0;
      }
    }
  }

  /** Why there is no picture: the index of a file that was cut off, or is being written, ends early. */
  private async ending(pts: number): Promise<Problem> {
    const last = await this.packets.getPacket(Infinity, { metadataOnly: true });
    const end = last ? last.timestamp + last.duration : 0;
    return new Problem(
      pts >= end - 1e-6
        ? `the index of the video ends at ${end.toFixed(2)} s, as it is not complete`
        : `the video has no picture at ${pts.toFixed(4)} s`,
    );
  }

  private async next(): Promise<VideoSample | null> {
    if (this.early) {
      const sample = this.early;
      this.early = null;
      return sample;
    }
    const found = await this.samples?.next();
    return found?.value ?? null;
  }

  private keep(sample: VideoSample): void {
    this.recent.push(sample);
    while (this.recent.length > KEPT) this.recent.shift()?.close();
  }

  private rewind(): void {
    void this.samples?.return();
    this.samples = null;
    this.early?.close();
    this.early = null;
    for (const sample of this.recent) sample.close();
    this.recent = [];
    this.last = Infinity;
  }
}
