// A report: a recording on one page, to read and to print.

import { el } from "./dom";
import { drawPlot, type Plot } from "./plots";

interface Section {
  name: string;
  title: string;
  text: string;
  statements: Record<string, string>;
  plot: Plot | null;
  columns: { title: string; number: boolean }[];
  rows: string[][];
  pictures: { key: string; frame: number; width: number; height: number; caption: string }[];
  nothing: string;
  caveats: string[];
  rest: string;
}

export interface Report {
  name: string;
  path: string;
  summary: string;
  facts: Record<string, string>;
  caveats: string[];
  findings: string[];
  sections: Section[];
  version: string;
}

/** Show a report; `picture` gives the address of a picture by its key. */
export function showReport(element: HTMLElement, report: Report, picture: (key: string) => string): void {
  document.title = `${report.name}: dgrec report`;
  const facts = el("dl", { class: "report-facts" });
  for (const [name, value] of Object.entries(report.facts)) {
    facts.append(el("dt", {}, name), el("dd", {}, value));
  }
  element.replaceChildren(
    el("p", { class: "report-summary" }, report.summary),
    facts,
    ...report.caveats.map((text) => el("p", { class: "report-caveat" }, text)),
    ...report.findings.map((text) => el("p", { class: "report-finding" }, text)),
    el("nav", { "aria-label": "Sections" }, ...report.sections.map(link)),
    ...report.sections.map((section) => sectionOf(section, picture)),
    el(
      "footer",
      {},
      `Made by dgrec ${report.version} from ${report.path}. Every statement above can be run and ` +
        "changed: ",
      el("code", {}, 'dgrec query SESSION "…"'),
      ". The page loads nothing from anywhere.",
    ),
  );
}

function link({ name, title }: Section): HTMLElement {
  return el("a", { href: `#${name}` }, title);
}

function sectionOf(section: Section, picture: (key: string) => string): HTMLElement {
  const { plot, rows, pictures, rest } = section;
  const hasSomething = plot !== null || rows.length > 0 || pictures.length > 0;
  return el(
    "section",
    { id: section.name },
    el("h2", {}, section.title),
    section.text && hasSomething ? el("p", { class: "report-text" }, section.text) : null,
    section.nothing ? el("p", {}, section.nothing) : null,
    plot ? plotOf(plot) : null,
    ...section.caveats.map((text) => el("p", { class: "report-caveat" }, text)),
    pictures.length ? strip(section, picture) : null,
    rows.length ? tableOf(section) : null,
    rest ? el("p", { class: "report-text" }, rest) : null,
    ...Object.entries(section.statements).map(([name, sql]) =>
      el("details", {}, el("summary", {}, name), el("pre", {}, sql)),
    ),
  );
}

function plotOf(plot: Plot): HTMLElement {
  const { diagrams, legend } = drawPlot(plot);
  const names = legend.map(([name, color]) => {
    const sign = el("i", {});
    sign.style.setProperty("--ink", `var(${color})`);
    return el("span", {}, sign, name);
  });
  const parts = diagrams.map(({ element }) => {
    const name = element.getAttribute("aria-label") ?? "";
    return el(
      "figure",
      { class: "plot" },
      diagrams.length > 1 || plot.name === "signals" ? el("figcaption", {}, name) : null,
      element as unknown as Node,
    );
  });
  return el(
    "div",
    { class: "plots" },
    names.length ? el("p", { class: "legend" }, ...names) : null,
    ...parts,
  );
}

function strip({ pictures }: Section, picture: (key: string) => string): HTMLElement {
  const figures = pictures.map(({ key, frame, width, height, caption }) =>
    el(
      "figure",
      {},
      el("img", { src: picture(key), alt: `frame ${frame}`, width, height }),
      el("figcaption", {}, caption),
    ),
  );
  return el("div", { class: "strip" }, ...figures);
}

function tableOf({ columns, rows }: Section): HTMLElement {
  const kind = (at: number) => (columns[at]?.number ? { class: "number" } : {});
  const head = columns.map(({ title }, at) => el("th", { scope: "col", ...kind(at) }, title));
  const body = rows.map((row) => el("tr", {}, ...row.map((cell, at) => el("td", kind(at), cell))));
  return el(
    "div",
    { class: "report-table" },
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)),
  );
}
