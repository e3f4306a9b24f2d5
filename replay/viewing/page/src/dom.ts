// Elements without markup: recorded text is only ever text.

type Child = Node | string | null | undefined;
type Attributes = Record<string, string | number | boolean | null | ((event: Event) => void)>;

/** Make an element; attributes that are functions are listeners, true is an empty attribute. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element with an id in index.html. */
export function slot(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return element;
}

/** Scroll an element into view within another. The page stays: a finger is on something else. */
export function reveal(element: HTMLElement, within: HTMLElement): void {
  const [inner, outer] = [element.getBoundingClientRect(), within.getBoundingClientRect()];
  if (inner.top < outer.top) within.scrollTop -= outer.top - inner.top;
  else if (inner.bottom > outer.bottom) within.scrollTop += inner.bottom - outer.bottom;
}
