// Statements that were run in this tab. A link may hold others: they wait until the user runs them.

const KEY = "dgrec-statements";
const MOST = 40;
/** Works even if the browser keeps nothing. */
const run = new Set<string>(stored());

/** Statements of a link that were not run here; "": none. */
export interface Offered {
  readonly sql: string;
  readonly where: string;
}

export const NOTHING_OFFERED: Offered = { sql: "", where: "" };

export function wasRun(statement: string): boolean {
  return !statement.trim() || run.has(statement);
}

export function remember(statement: string): void {
  if (!statement.trim()) return;
  run.delete(statement); // used last, removed last
  run.add(statement);
  for (const oldest of run) {
    if (run.size <= MOST) break;
    run.delete(oldest);
  }
  try {
    sessionStorage.setItem(KEY, JSON.stringify([...run]));
  } catch {
    return; // not allowed, or full
  }
}

function stored(): string[] {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((each) => typeof each === "string") : [];
  } catch {
    return [];
  }
}
