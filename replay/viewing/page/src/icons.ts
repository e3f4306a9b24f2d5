// The signs on the buttons, drawn as paths of a 16 by 16 field.

const PATHS = {
  play: "M4.5 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  stepBack: "M11.5 3v10L5.5 8zM3 3h1.7v10H3z",
  step: "M4.5 3v10l6-5zM11.3 3H13v10h-1.7z",
  markBack: "M9 3v10L3.6 8zM14 3v10L8.6 8z",
  mark: "M2 3v10l5.4-5zM7 3v10l5.4-5z",
  loop: "M4.6 4.2h6.2a2.9 2.9 0 0 1 2.9 2.9v.7h-1.6v-.7a1.3 1.3 0 0 0-1.3-1.3H4.6v1.9L1.4 5l3.2-2.7zM11.4 11.8H5.2a2.9 2.9 0 0 1-2.9-2.9v-.7h1.6v.7a1.3 1.3 0 0 0 1.3 1.3h6.2V8.3l3.2 2.7-3.2 2.7z",
  gaps: "M1.5 7.2h4v1.6h-4zM10.5 7.2h4v1.6h-4zM6.6 4.5l2 3.5-2 3.5H8l2-3.5-2-3.5z",
  full: "M2 2h4.5v1.6H3.6v2.9H2zM9.5 2H14v4.5h-1.6V3.6H9.5zM2 9.5h1.6v2.9h2.9V14H2zM12.4 9.5H14V14H9.5v-1.6h2.9z",
};

export type Icon = keyof typeof PATHS;

const SVG = "http://www.w3.org/2000/svg";

export function icon(name: Icon): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
