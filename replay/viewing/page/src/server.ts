// The server of `dgrec view`; only this file knows how things are loaded from it.

import { isAbort, Moved, Problem, type Query, type Source } from "./data";
import { listenTo, type Happenings } from "./happenings";

/** The longest address: aiohttp refuses longer lines. */
const LONGEST = 8000;

export class Server implements Source {
  readonly hasRanges = true;
  readonly hasServer = true;
  readonly note = "";

  single(): Promise<null> {
    return Promise.resolve(null);
  }

  address(path: string, query: Query): string {
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
    }
    return url.href;
  }

  video(query: Query): Promise<string> {
    return Promise.resolve(this.address("video", query));
  }

  private asked(path: string, query: Query): string {
    const address = this.address(path, query);
    if (address.length <= LONGEST) return address;
    const [name, value] = Object.entries(query).sort(([, a], [, b]) => String(b).length - String(a).length)[0] ?? [];
    const what = name === "s" ? "the name of the recording" : "the text";
    throw new Problem(`${what} is too long: ${String(value).length.toLocaleString("en")} letters; at most ${LONGEST.toLocaleString("en")}`);
  }

  tell(path: string, query: Query): void {
    void fetch(this.address(path, query), { credentials: "same-origin", keepalive: true }).catch(() => undefined);
  }

  listen(path: string, query: Query, to: Happenings): () => void {
    return listenTo(this.address(path, query), to);
  }

  async get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
    let response: Response;
    const address = this.asked(path, query);
    try {
      response = await fetch(address, {
        credentials: "same-origin",
        ...(signal ? { signal } : {}),
      });
    } catch (error) {
      if (isAbort(error)) throw error;
      throw new Problem("dgrec view does not answer; is it still running?");
    }
    const body: unknown = await response.json().catch(() => null);
    if (!response.ok) {
      const said = (body as { error?: unknown } | null)?.error;
      throw refusal(response, typeof said === "string" ? said : `the server answered ${response.status}`);
    }
    return body as T;
  }

  async picture(path: string, query: Query, signal: AbortSignal): Promise<Response> {
    const response = await fetch(this.asked(path, query), { credentials: "same-origin", signal });
    if (!response.ok) {
      const body = (await response.json().catch(() => null)) as { error?: string } | null;
      throw refusal(response, body?.error ?? `no picture: the server answered ${response.status}`);
    }
    return response;
  }
}

function refusal({ status }: Response, text: string): Problem {
  if (status === 401) return new Problem("the token is not valid (any more): open the address that dgrec view prints");
  return status === 409 ? new Moved(text) : new Problem(text);
}

/** Whether a file server gives parts of files; Python's own does not. */
export async function givesParts(address: string): Promise<boolean> {
  const abort = new AbortController();
  const asked = { headers: { Range: "bytes=0-0" }, signal: abort.signal };
  const answer = await fetch(address, asked).catch(() => null);
  abort.abort();
  return answer?.status !== 200;
}

/** The address of a copy of a file, inside the browser. */
export async function copyOf(address: string): Promise<string> {
  return URL.createObjectURL(await (await fetch(address)).blob());
}
