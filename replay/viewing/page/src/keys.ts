// The keys of the page: each part adds its own, and the help lists them all.

export interface Shortcut {
  /** As `KeyboardEvent.key` says it; after "Shift+" where that matters. */
  keys: string[];
  /** How the help shows them; by default as the keys themselves. */
  shown?: string;
  group: string;
  text: string;
  run: (event: KeyboardEvent) => void;
}

export class Keys {
  private readonly shortcuts: Shortcut[] = [];

  constructor() {
    document.addEventListener("keydown", (event) => {
      this.pressed(event);
    });
  }

  add(...shortcuts: Shortcut[]): () => void {
    this.shortcuts.push(...shortcuts);
    return () => {
      for (const shortcut of shortcuts) {
        this.shortcuts.splice(this.shortcuts.indexOf(shortcut), 1);
      }
    };
  }

  all(): readonly Shortcut[] {
    return this.shortcuts;
  }

  private pressed(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]") && event.key !== "?") return;
    if (typesText(event.target) || usesKey(event)) return;
    const names = event.shiftKey ? [`Shift+${event.key}`, event.key] : [event.key];
    for (const name of names) {
      const found = this.shortcuts.find((shortcut) => shortcut.keys.includes(name));
      if (found) {
        event.preventDefault();
        found.run(event);
        return;
      }
    }
  }
}

function typesText(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) {
    return !["checkbox", "radio", "button", "range"].includes(target.type);
  }
  return (
    target instanceof HTMLTextAreaElement ||
    (target instanceof HTMLElement && target.isContentEditable)
  );
}

/** Whether the element that has the focus needs the key itself. */
function usesKey(event: KeyboardEvent): boolean {
  const { target, key } = event;
  if (!(target instanceof Element)) return false;
  const arrows = key.startsWith("Arrow") || ["Home", "End", "PageUp", "PageDown"].includes(key);
  if (arrows && target.closest("select, input, [role=slider], [role=tablist], [data-arrows]")) {
    return true;
  }
  return (key === " " || key === "Enter") && !!target.closest("button, a, select, summary, input");
}
