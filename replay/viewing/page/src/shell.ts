// Texts as a shell takes them: POSIX quoting, and bash's $'...' for what cannot be seen.

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;
/** Control characters, and bytes of a name that are not UTF-8 (as Python escapes them). */
const UNSEEN = /[\u0000-\u001f\u007f\u0080-\u009f\u2028\u2029\ud800-\udfff]/;

export function quoted(text: string): string {
  if (PLAIN.test(text)) return text;
  const hasUnseen = Array.from(text).some((c) => UNSEEN.test(c) && c.length === 1);
  if (!hasUnseen) return `'${text.replace(/'/g, "'\\''")}'`;
  return `$'${Array.from(text).map(escaped).join("")}'`;
}

function escaped(character: string): string {
  if (character === "'" || character === "\\") return `\\${character}`;
  if (character === "\n") return "\\n";
  if (character === "\t") return "\\t";
  if (character.length > 1 || !UNSEEN.test(character)) return character;
  const code = character.charCodeAt(0);
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
  return code < 0x80 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
}

/** A path that no command takes for an option. */
export function pathArgument(path: string): string {
  return quoted(path.startsWith("-") ? `./${path}` : path);
}

/** The command that answers the same statement. */
export function queryCommand(path: string, sql: string): string {
  // A text that begins like an option, such as a comment, follows "--".
  const end = sql.startsWith("-") ? "-- " : "";
  return `dgrec query ${end}${pathArgument(path)} ${quoted(sql)}`;
}

/** The last part of a path, without the suffix of sessions, as the beginning of other names. */
export function stem(path: string): string {
  const name = path.replace(/\/+$/, "").split("/").pop() ?? "";
  return name.replace(/\.(parquet|arrows)$/, "").replace(/^-+/, "") || "session";
}
