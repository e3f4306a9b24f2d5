// Commands and statements to copy.

import { el } from "./dom";

/** A line of code with a button that copies it. */
export function copyable(text: string, label = "Copy"): HTMLElement {
  const code = el("code", { class: "copyable-text", tabindex: 0 }, text);
  return el("div", { class: "copyable" }, code, copyButton(() => code, label));
}

export function copyButton(source: () => HTMLElement, label = "Copy"): HTMLButtonElement {
  const button = el("button", { type: "button", class: "quiet copy" }, label);
  button.addEventListener("click", () => void copy(source(), button, label));
  return button;
}

async function copy(source: HTMLElement, button: HTMLButtonElement, label: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Not allowed on http from another machine: select the text for Ctrl+C.
    window.getSelection()?.selectAllChildren(source);
    button.textContent = "Ctrl+C";
  }
  window.setTimeout(() => {
    button.textContent = label;
  }, 1500);
}
