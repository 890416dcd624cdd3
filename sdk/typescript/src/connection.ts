// A session on a connection that may be lost and taken up again, with nothing lost or doubled (5, 15.4).

import { ConnectionLost, ExecError, RequestFailed } from "./errors.js";
import { type Link, type Place, dial, outlives } from "./links.js";

/** After a loss, for so long a resume is tried, and so long apart. Milliseconds. */
const RECOVERY_TIME = 25_000;
const RETRY_PAUSE = 100;
/** For the answer to `initialize`. */
const HANDSHAKE_TIME = 10_000;
/** A session that another connection seems to hold: it is asked for again. */
const ATTACHED = -32010;
/** Bytes that wait for one reader; then the connection is not read, unless a call waits for its answer, and then up to the second. */
const QUEUED = 2 << 20;
const QUEUED_WITH_CALLS = 16 << 20;
/** How a piece of output begins on the wire, and where its bytes do: within so many characters. */
const OUTPUT = '{"method":"process/output","params":{';
const CHUNK = '"chunk":"';
const LONGEST_HEAD = 4096;
/** Requests that may be repeated without harm. */
const REPEATABLE = new Set(["process/read", "process/terminate", "process/wait", "process/list", "session/end"]);

/** Any JSON object. */
export type Json = Record<string, any>;

/** What the notifications of a process go to. */
export interface Follower {
  readonly queued: number;
  readonly published: number;
  readonly over: boolean;
  output(seq: number, stream: string, chunk: Buffer): void;
  event(method: string, params: Json): void;
  recovered(read: Json): void;
  lost(reason: string): void;
}

interface Call {
  method: string;
  message: string;
  repeatable: boolean;
  done(result: Json): void;
  failed(error: Error): void;
}

export class Connection {
  readonly followers = new Map<string, Follower>();
  readonly bodies = new Map<string, (delta: Json | null) => void>();
  sessionId = "";
  info: Json | undefined;
  #calls = new Map<number, Call>();
  #next = 1;
  #link: Link | undefined;
  #ended: string | undefined;
  #closing = false;

  constructor(private readonly place: Place) {}

  /** Connects, and opens a session or takes one up. */
  async open(resume: string | null = null): Promise<void> {
    this.#link = await this.#connect(resume);
  }

  async #connect(resume: string | null): Promise<Link> {
    let ready = false;
    let over: string | undefined;
    const hello = this.#next++;
    let answered!: (message: Json) => void;
    let refused!: (error: Error) => void;
    const handshake = new Promise<Json>((done, failed) => ([answered, refused] = [done, failed]));
    // Told by whoever waits for it.
    handshake.catch(() => {});
    const link = await dial(this.place, {
      message: (text) => {
        if (ready) return this.#route(text);
        const message = JSON.parse(text) as Json;
        if (message.id === hello) {
          ready = true;
          answered(message);
        }
      },
      ended: (reason) => {
        over = reason;
        refused(new ConnectionLost(`${reason}, in the handshake`));
        if (ready && this.#link === link) void this.#lost(reason);
      },
    });
    const late = setTimeout(() => refused(new ConnectionLost("no answer to initialize")), HANDSHAKE_TIME);
    try {
      const params = { clientName: "codex-exec-typescript", resumeSessionId: resume };
      link.send(JSON.stringify({ id: hello, method: "initialize", params }));
      const message = await handshake;
      if (message.error) {
        const { code, message: reason, data } = message.error;
        throw new RequestFailed("initialize", code, reason, data);
      }
      this.sessionId = message.result.sessionId;
      this.info = message.result.environmentInfo ?? this.info;
      link.send('{"method":"initialized","params":{}}');
      // Lost since: nobody else would hear of it, since it is nobody's connection yet.
      if (over !== undefined) throw new ConnectionLost(`${over}, in the handshake`);
      return link;
    } catch (error) {
      await link.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** Calls a method and gives its result. */
  call(method: string, params: Json = {}, repeatable = REPEATABLE.has(method)): Promise<Json> {
    if (this.#ended !== undefined) return Promise.reject(new ConnectionLost(this.#ended));
    const id = this.#next++;
    const message = JSON.stringify({ id, method, params });
    return new Promise<Json>((done, failed) => {
      this.#calls.set(id, { method, message, repeatable, done, failed });
      this.#link?.send(message);
      this.took();
    });
  }

  #route(text: string): void {
    // The many: taken apart without a parser, as far as they look as usual.
    if (text.startsWith(OUTPUT)) {
      const begin = text.indexOf(CHUNK, OUTPUT.length);
      if (begin > 0 && begin < LONGEST_HEAD && text.endsWith('"}}')) {
        const { processId, seq, stream } = (JSON.parse(`${text.slice(0, begin)}"chunk":""}}`) as Json).params;
        const chunk = Buffer.from(text.slice(begin + CHUNK.length, -3), "base64");
        return this.#output(processId, seq, stream, chunk);
      }
    }
    const message = JSON.parse(text) as Json;
    if (message.method === undefined) return this.#answered(message);
    if (message.id !== undefined) {
      const error = { code: -32601, message: `unknown method: ${message.method}` };
      return this.#link?.send(JSON.stringify({ id: message.id, error }));
    }
    const params = message.params ?? {};
    if (message.method === "http/request/bodyDelta") return this.bodies.get(params.requestId)?.(params);
    if (message.method === "process/output") {
      return this.#output(params.processId, params.seq, params.stream, Buffer.from(params.chunk, "base64"));
    }
    this.followers.get(params.processId)?.event(message.method, params);
  }

  #output(processId: string, seq: number, stream: string, chunk: Buffer): void {
    const follower = this.followers.get(processId);
    follower?.output(seq, stream, chunk);
    if (follower !== undefined && follower.queued >= QUEUED) this.took();
  }

  #answered(message: Json): void {
    const call = this.#calls.get(message.id);
    if (call === undefined) return;
    this.#calls.delete(message.id);
    const { error } = message;
    if (error) call.failed(new RequestFailed(call.method, error.code, error.message, error.data));
    else call.done(message.result);
    this.took();
  }

  /** A reader has taken something, or calls have come or gone: whether the server has to wait for us is looked at anew. */
  took(): void {
    const bound = this.#calls.size > 0 ? QUEUED_WITH_CALLS : QUEUED;
    this.#link?.pause([...this.followers.values()].some((follower) => follower.queued >= bound));
  }

  async #lost(reason: string): Promise<void> {
    if (this.#closing) return;
    for (const [id, call] of this.#calls) {
      if (call.repeatable) continue;
      this.#calls.delete(id);
      call.failed(new ConnectionLost(`${call.method}: ${reason}; whether it was done is not known`));
    }
    for (const body of this.bodies.values()) body(null);
    const deadline = Date.now() + RECOVERY_TIME;
    while (outlives(this.place) && !this.#closing && Date.now() < deadline) {
      try {
        const link = await this.#connect(this.sessionId);
        // It was closed meanwhile: nobody would ever close this one.
        if (this.#closing) return await link.close();
        this.#link = link;
        for (const call of this.#calls.values()) link.send(call.message);
        for (const [id, follower] of this.followers) void this.recover(id, follower);
        return;
      } catch (error) {
        if (error instanceof RequestFailed && error.code !== ATTACHED) break;
      }
      await new Promise((again) => setTimeout(again, RETRY_PAUSE));
    }
    this.#end(reason);
  }

  /** Reads what was missed while nobody was connected. */
  async recover(id: string, follower: Follower): Promise<void> {
    if (follower.over) return;
    try {
      follower.recovered(await this.call("process/read", { processId: id, afterSeq: follower.published, waitMs: 0 }));
    } catch (error) {
      follower.lost(String(error));
    }
  }

  #end(reason: string): void {
    this.#ended = reason;
    for (const call of this.#calls.values()) call.failed(new ConnectionLost(`${call.method}: ${reason}`));
    this.#calls.clear();
    for (const follower of [...this.followers.values()]) follower.lost(reason);
    for (const body of this.bodies.values()) body(null);
  }

  /** Ends the connection; with the session, unless that is to be taken up elsewhere. */
  async close(endSession: boolean): Promise<void> {
    if (this.#ended === undefined && endSession) {
      const late = new Promise((done) => setTimeout(done, 2000).unref());
      // Released servers do not know the method; the session ends by itself after a while.
      const ended = this.call("session/end").catch((error: unknown) => {
        if (!(error instanceof ExecError)) throw error;
      });
      await Promise.race([ended, late]);
    }
    this.#closing = true;
    await this.#link?.close();
    this.#end("the connection was closed");
  }
}
