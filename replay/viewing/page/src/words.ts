// How the page writes times and names.

/** Seconds as 1:02.345, or 3:01:02.345 from an hour on. */
export function clock(seconds: number): string {
  const sign = seconds < 0 ? "-" : "";
  const ms = Math.round(Math.abs(seconds) * 1000);
  const [h, m, s] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, (ms / 1000) % 60];
  const rest = s.toFixed(3).padStart(6, "0");
  return h ? `${sign}${h}:${String(m).padStart(2, "0")}:${rest}` : `${sign}${m}:${rest}`;
}

/** A length of time in words' units: 320 ms, 4.2 s, 3 min 20 s. */
export function length(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const all = Math.round(seconds);
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  return h ? `${h} h ${m} min` : `${m} min ${s} s`;
}

export function milliseconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return value.toFixed(value < 100 ? 1 : 0);
}

/** A column of times as a reader says it: "core_inference_ms" is "core inference". */
export function stageName(column: string): string {
  return column.replace(/_ms$/, "").replace(/_/g, " ");
}

export function plural(count: number, name: string): string {
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}
