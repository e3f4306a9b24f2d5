// The events of a recording in progress.

/** The frame that is recorded now, with its overlay. */
export interface Moment {
  picture: ImageBitmap;
  /** When it was captured, in microseconds since 1970. */
  captured: number;
  /** Its age when it was sent. */
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

/** A listener to the events of a recording in progress. */
export interface Happenings {
  grew(growth: Growth): void;
  alert(alert: Alert): void;
  targets(targets: Target[]): void;
  ended(growth: Growth): void;
  problem(problem: { error: string }): void;
  /** Whether the server answers. */
  connected(isConnected: boolean): void;
}

/** A connection that was refused is tried again after this. */
const AGAIN_MS = 2000;
const EVENTS = ["grew", "alert", "targets", "ended", "problem"] as const;

/** Listen to Server-Sent Events until the returned function is called. */
export function listenTo(address: string, to: Happenings): () => void {
  let events: EventSource | null = null;
  let waiting = 0;
  const open = () => {
    events = new EventSource(address);
    events.onopen = () => { to.connected(true); };
    events.onerror = () => {
      to.connected(false);
      // Browsers reconnect by themselves, except after answers that are errors.
      if (events?.readyState === EventSource.CLOSED) waiting = window.setTimeout(open, AGAIN_MS);
    };
    for (const name of EVENTS) {
      events.addEventListener(name, (event) => {
        (to[name] as (data: unknown) => void)(JSON.parse((event as MessageEvent<string>).data));
      });
    }
  };
  open();
  return () => {
    window.clearTimeout(waiting);
    events?.close();
  };
}
