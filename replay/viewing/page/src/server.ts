// The server of `dgrec view`; only this file knows how things are loaded from it.

import { isAbort, Moved, Problem, type Query, type Source } from "./data";
import { listenTo, type Happenings } from "./happenings";

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

  tell(path: string, query: Query): void {
    void fetch(this.address(path, query), { credentials: "same-origin", keepalive: true }).catch(() => undefined);
  }

  listen(path: string, query: Query, to: Happenings): () => void {
    return listenTo(this.address(path, query), to);
  }

  async get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
    let response: Response;
    try {
      response = await fetch(this.address(path, query), {
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
    const response = await fetch(this.address(path, query), { credentials: "same-origin", signal });
    if (!response.ok) {
      const body = (await response.json().catch(() => null)) as { error?: string } | null;
      throw refusal(response, body?.error ?? `no picture: the server answered ${response.status}`);
    }
    return response;
  }
}

function refusal({ status }: Response, text: string): Problem {
  return status === 409 ? new Moved(text) : new Problem(text);
}
