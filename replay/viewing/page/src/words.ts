// Times and names as the page writes them.

/** Shown for a label that is an empty text. */
export const EMPTY_LABEL = "(empty)";

/** Seconds as 1:02.345, or 3:01:02.345 from an hour on. */
export function clock(seconds: number): string {
  const sign = seconds < 0 ? "-" : "";
  const ms = Math.round(Math.abs(seconds) * 1000);
  const [h, m, s] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, (ms / 1000) % 60];
  const rest = s.toFixed(3).padStart(6, "0");
  return h ? `${sign}${h}:${String(m).padStart(2, "0")}:${rest}` : `${sign}${m}:${rest}`;
}

/** A length of time with its units: 320 ms, 4.2 s, 3 min 20 s. */
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

/** A column of times in plain words: "core_inference_ms" is "core inference". */
export function stageName(column: string): string {
  return column.replace(/_ms$/, "").replace(/_/g, " ");
}

export function plural(count: number, name: string): string {
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

/** A duration as people write it: 9.3 s, 12:05, 26:40:00. */
export function duration(seconds: number | null): string {
  if (seconds === null) return "–";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const all = Math.round(seconds);
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  const two = (value: number) => String(value).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A rate as `dgrec stats` writes it: one decimal, or three digits where it is small. */
export function rate(fps: number | null): string {
  if (fps === null) return "–";
  return fps >= 10 || fps === 0 ? fps.toFixed(1) : fps >= 1 ? fps.toFixed(2) : fps.toPrecision(3);
}

export function bytes(size: number): string {
  const units = ["B", "KB", "MB", "GB"];
  let [value, unit] = [size, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${value.toFixed(unit ? 1 : 0)} ${units[unit] ?? ""}`;
}

/** A stamp in local time, to the minute. */
export function day(stamp: string | null): string {
  const date = stamp === null ? null : new Date(stamp);
  if (!date || Number.isNaN(date.getTime())) return "–";
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** A codec's usual name. */
export function codecName(codec: string | null | undefined): string {
  const names: Record<string, string> = { h264: "H.264", hevc: "H.265", vp8: "VP8", vp9: "VP9", av1: "AV1" };
  return codec ? (Object.hasOwn(names, codec) ? names[codec] : undefined) ?? codec : "of a codec that is not known";
}
