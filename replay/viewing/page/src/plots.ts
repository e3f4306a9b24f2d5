// The plots of a report, each from the rows of its statements.

import { Diagram, figure, type Axis } from "./diagram";

export type PlotRow = Record<string, number | string | null>;

/** A report's data for one plot. */
export interface Plot {
  name: string;
  title: string;
  rows: PlotRow[];
  /** From the first capture to the last result. */
  seconds: number;
  /** Length of the rows' spans of time. */
  span_s: number;
  /** Width of a histogram's bars. */
  bin_ms: number;
}

const COLORS = [1, 2, 3, 4, 5, 6].map((number) => `--series-${number}`);
const LOST = "--bad";
const STAGES = ["preprocess", "inference", "postprocess", "other"];
const STAGE_COLORS = ["--series-2", "--series-1", "--series-3", "--faint"];

export interface Drawn {
  diagrams: Diagram[];
  /** Names beside colours. */
  legend: [string, string][];
}

export function drawPlot(plot: Plot): Drawn {
  switch (plot.name) {
    case "latency":
      return latency(plot);
    case "histogram":
      return histogram(plot);
    case "stages":
      return stacked(plot, "stage", "mean_ms", "mean, ms a frame", STAGES, STAGE_COLORS);
    case "throughput":
      return throughput(plot);
    case "signals":
      return signals(plot);
    default:
      return stacked(plot, "label", "per_second", "detections, 1/s");
  }
}

// Over time

interface TimeAxis extends Axis {
  unit: number;
}

function timeAxis({ seconds, span_s }: Plot): TimeAxis {
  const [word, unit] =
    seconds <= 600 ? (["seconds", 1] as const) : seconds <= 14400 ? (["minutes", 60] as const) : (["hours", 3600] as const);
  const to = Math.max(seconds, span_s, 1e-6) / unit;
  return { from: 0, to, title: `${word} since the first frame`, unit: unit };
}

function latency(plot: Plot): Drawn {
  const rows = plot.rows.filter((row) => !("mark" in row));
  const x = timeAxis(plot);
  const at = (row: PlotRow) => value(row.second) / x.unit;
  const isEach = rows.some((row) => "latency_ms" in row);
  const most = Math.max(...rows.map((row) => value(isEach ? row.latency_ms : row.max_ms)), 1e-3);
  const diagram = new Diagram(plot.title, 240, x, { from: 0, to: most * 1.05, title: "latency, ms" });
  const legend: Drawn["legend"] = [];
  if (isEach) {
    const known = rows.filter((row) => row.latency_ms !== null);
    diagram.line(known.map((row) => [at(row), value(row.latency_ms)]), "--series-1");
    for (const row of known) diagram.point(at(row), value(row.latency_ms), "--series-1", frameTitle(row));
  } else {
    const known = rows.filter((row) => row.p50_ms !== null && row.p95_ms !== null);
    diagram.band(known.map((row) => [at(row), value(row.p50_ms), value(row.p95_ms)]), "--series-1");
    diagram.line(known.map((row) => [at(row), value(row.p50_ms)]), "--series-1");
    for (const row of known) diagram.point(at(row), value(row.max_ms), "--series-2", spanTitle(row));
    legend.push(["p50, and up to p95", "--series-1"], ["slowest frame", "--series-2"]);
  }
  for (const row of rows) lost(diagram, row, at(row), value(row.dropped_before ?? row.dropped));
  for (const row of plot.rows.filter((row) => "mark" in row)) {
    diagram.rule(at(row), "--series-4", `${words(row.mark)} (${figure(value(row.second))} s)`);
  }
  return { diagrams: [diagram], legend };
}

function frameTitle(row: PlotRow): string {
  const stages = ["preprocess", "inference", "postprocess"]
    .filter((name) => typeof row[`${name}_ms`] === "number")
    .map((name) => `${name} ${figure(value(row[`${name}_ms`]))}`);
  const inside = stages.length ? ` (${stages.join(", ")})` : "";
  return `frame ${words(row.frame)}: ${figure(value(row.latency_ms))} ms${inside}`;
}

function spanTitle(row: PlotRow): string {
  return (
    `from ${figure(value(row.second))} s: ${words(row.frames)} frames, p50 ${figure(value(row.p50_ms))}, ` +
    `p95 ${figure(value(row.p95_ms))}, slowest ${figure(value(row.max_ms))} ms (frame ${words(row.slowest_frame)})`
  );
}

function lost(diagram: Diagram, row: PlotRow, at: number, count: number): void {
  if (count > 0) diagram.tick(at, LOST, `${count} frames lost at ${figure(value(row.second))} s`);
}

function throughput(plot: Plot): Drawn {
  const x = timeAxis(plot);
  const most = Math.max(...plot.rows.map((row) => value(row.fps)), 1e-3);
  const diagram = new Diagram(plot.title, 180, x, { from: 0, to: most * 1.05, title: "frames, 1/s" });
  for (const row of plot.rows) {
    const [from, to] = spanOf(plot, row, x);
    const title = `from ${figure(value(row.second))} s: ${figure(value(row.fps))} frames/s`;
    diagram.bar(from, to, 0, value(row.fps), "--series-3", title);
  }
  for (const row of plot.rows) lost(diagram, row, value(row.second) / x.unit, value(row.dropped));
  return { diagrams: [diagram], legend: [] };
}

/** Where a row's span begins and ends; the last one ends with the recording. */
function spanOf(plot: Plot, row: PlotRow, x: TimeAxis): [number, number] {
  const from = value(row.second);
  const length = value(row.seconds) || plot.span_s;
  return [from / x.unit, Math.min(from + length, Math.max(plot.seconds, plot.span_s)) / x.unit];
}

/** Stacked bars, for each span of time. */
function stacked(
  plot: Plot,
  name: string,
  field: string,
  title: string,
  order: readonly string[] = [...new Set(plot.rows.map((row) => words(row[name])))],
  colors: readonly string[] = COLORS,
): Drawn {
  const x = timeAxis(plot);
  const spans = new Map<number, PlotRow[]>();
  for (const row of plot.rows) {
    const second = value(row.second);
    spans.set(second, [...(spans.get(second) ?? []), row]);
  }
  const sum = (rows: PlotRow[]) => rows.reduce((total, row) => total + value(row[field]), 0);
  const most = Math.max(...[...spans.values()].map(sum), 1e-3);
  const diagram = new Diagram(plot.title, 220, x, { from: 0, to: most * 1.05, title });
  const color = (key: string) => colors[order.indexOf(key) % colors.length] ?? "--faint";
  for (const rows of spans.values()) {
    let low = 0;
    for (const row of rows.sort((a, b) => order.indexOf(words(a[name])) - order.indexOf(words(b[name])))) {
      const [from, to] = spanOf(plot, row, x);
      const high = low + value(row[field]);
      const said = `${words(row[name])}: ${figure(value(row[field]))}, from ${figure(value(row.second))} s`;
      diagram.bar(from, to, low, high, color(words(row[name])), said);
      low = high;
    }
  }
  return { diagrams: [diagram], legend: order.map((key) => [key, color(key)]) };
}

function signals(plot: Plot): Drawn {
  const x = timeAxis(plot);
  const names = [...new Set(plot.rows.map((row) => words(row.name)))];
  const diagrams = names.map((name) => {
    const rows = plot.rows.filter((row) => words(row.name) === name && row.mean !== null);
    const low = Math.min(...rows.map((row) => value(row.least)));
    const high = Math.max(...rows.map((row) => value(row.most)));
    const room = (high - low || Math.abs(high) || 1) * 0.05;
    const diagram = new Diagram(name, 110, x, { from: low - room, to: high + room, title: "" });
    const at = (row: PlotRow) => value(row.second) / x.unit;
    diagram.band(rows.map((row) => [at(row), value(row.least), value(row.most)]), "--series-1");
    diagram.line(rows.map((row) => [at(row), value(row.mean)]), "--series-1");
    for (const row of rows) diagram.point(at(row), value(row.mean), "--series-1", `${name}: ${figure(value(row.mean))}`);
    return diagram;
  });
  return { diagrams, legend: [] };
}

// By length

function histogram(plot: Plot): Drawn {
  const bars = plot.rows.filter((row) => "frames" in row && row.from_ms !== null);
  const marks = plot.rows.filter((row) => "name" in row && row.ms !== null);
  const width = plot.bin_ms;
  const starts = bars.map((row) => value(row.from_ms));
  const least = Math.min(...starts, 0);
  const x = {
    from: least,
    to: Math.max(...starts, least) + width,
    title: "latency, ms (the last bar: that and longer)",
  };
  const most = Math.max(...bars.map((row) => value(row.frames)), 1);
  const diagram = new Diagram(plot.title, 220, x, { from: 0, to: most * 1.05, title: "frames" });
  for (const row of bars) {
    const from = value(row.from_ms);
    const title = `${figure(from)} to ${figure(from + width)} ms: ${words(row.frames)} frames`;
    diagram.bar(from, from + width, 0, value(row.frames), "--series-1", title);
  }
  for (const row of marks) {
    const ms = value(row.ms);
    if (ms <= x.to) diagram.rule(ms, LOST, `${words(row.name)}: ${figure(ms)} ms`, words(row.name));
  }
  return { diagrams: [diagram], legend: [] };
}

function value(cell: PlotRow[string] | undefined): number {
  return typeof cell === "number" && Number.isFinite(cell) ? cell : 0;
}

function words(cell: PlotRow[string] | undefined): string {
  return cell === null || cell === undefined ? "" : String(cell);
}
