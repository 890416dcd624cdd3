// A program on the server's machine, like one of node:child_process.

import { randomUUID } from "node:crypto";
import { Readable, Writable } from "node:stream";

import type { Connection, Follower, Json } from "./connection.js";
import { ConnectionLost, ExecError } from "./errors.js";

/** A signal; released servers know `interrupt` only. */
export type Signal =
  | "interrupt" | "terminate" | "kill" | "hangup" | "quit" | "user1" | "user2" | "stop" | "continue" | "windowChange";

/** How a program ended. */
export interface Exit {
  /** 0 to 255; 128 + n for a signal, on a terminal 1. */
  exitCode: number;
  /** The signal that killed it, where the server tells. */
  signal: number | null;
  /** A deadline ended it. */
  timedOut: boolean;
}

/** A program that has ended, with all that it printed. */
export interface Completed extends Exit {
  stdout: Buffer;
  stderr: Buffer;
}

/** A stream of output, whose reader sets the pace. */
class Output extends Readable {
  #pieces: Buffer[] = [];
  #ended = false;
  #wanted = false;

  constructor(private readonly taken: (bytes: number) => void) {
    super();
  }

  put(piece: Buffer | null, failure?: Error): void {
    if (failure !== undefined) return void this.destroy(failure);
    if (piece === null) this.#ended = true;
    else this.#pieces.push(piece);
    if (this.#wanted) this._read();
  }

  unread(): Buffer {
    return Buffer.concat([...this.#pieces]);
  }

  override _read(): void {
    this.#wanted = true;
    while (this.#wanted) {
      const piece = this.#pieces.shift();
      if (piece === undefined) break;
      this.taken(piece.length);
      if (!this.push(piece)) this.#wanted = false;
    }
    if (this.#ended && this.#pieces.length === 0) {
      this.#ended = false;
      this.push(null);
    }
  }
}

/** A started program. */
export class Process implements Follower {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  exit: Exit | undefined;
  queued = 0;
  published = 0;
  over = false;
  #held = new Map<number, [string, any]>();
  #writes = 0;
  #prefix = `${randomUUID()}-`;
  #out: Output;
  #err: Output;
  #exited!: (exit: Exit) => void;
  #failed!: (error: Error) => void;
  #end: Promise<Exit>;

  constructor(
    private readonly connection: Connection,
    /** Chosen by whoever started it; private to the session. */
    readonly id: string,
  ) {
    const taken = (bytes: number) => {
      this.queued -= bytes;
      connection.took();
    };
    this.stdout = this.#out = new Output(taken);
    this.stderr = this.#err = new Output(taken);
    this.#end = new Promise((done, failed) => ([this.#exited, this.#failed] = [done, failed]));
    // Told by whoever waits for it.
    this.#end.catch(() => {});
    this.stdin = new Writable({
      write: (chunk: Buffer | string, encoding, done) => {
        const bytes = typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
        this.#write(bytes).then(() => done(), done);
      },
      final: (done) => {
        connection.call("process/closeStdin", { processId: id }).then(() => done(), done);
      },
    });
    // A program that ended without reading its input says so by its exit.
    this.stdin.on("error", () => {});
  }

  async #write(bytes: Buffer): Promise<void> {
    const writeId = `${this.#prefix}${++this.#writes}`;
    const params = { processId: this.id, chunk: bytes.toString("base64"), writeId };
    const { status } = await this.connection.call("process/write", params, true);
    if (status !== "accepted") throw new ExecError(`process ${this.id} takes no input: ${status}`);
  }

  /** Waits for its end. */
  wait(): Promise<Exit> {
    return this.#end;
  }

  /** Signals its process group. */
  async signal(signal: Signal): Promise<void> {
    await this.connection.call("process/signal", { processId: this.id, signal });
  }

  /** Ends it and its tree at once, or by SIGTERM first, with so many milliseconds until SIGKILL. Whether it ran. */
  async kill(graceMs?: number): Promise<boolean> {
    const params = graceMs === undefined ? { processId: this.id } : { processId: this.id, graceMs };
    return (await this.connection.call("process/terminate", params)).running;
  }

  /** Changes the size of its terminal. */
  async resize(rows: number, cols: number): Promise<void> {
    await this.connection.call("process/resize", { processId: this.id, rows, cols });
  }

  // ---- what comes (the connection's side)

  output(seq: number, stream: string, chunk: Buffer): void {
    this.#take(seq, [stream, chunk]);
  }

  event(method: string, params: Json): void {
    this.#take(params.seq, [method, params]);
  }

  /** Fills in what was missed, as 15.4 has it. */
  recovered(read: Json): void {
    if (read.lostBytes > 0) return this.lost(`${read.lostBytes} bytes of output were lost while the connection was away`);
    for (const { seq, stream, chunk } of read.chunks) this.output(seq, stream, Buffer.from(chunk, "base64"));
    const missing: number[] = [];
    for (let seq = this.published + 1; seq < read.nextSeq; seq++) if (!this.#held.has(seq)) missing.push(seq);
    const last = () => missing.pop();
    let seq: number | undefined;
    if (read.closed && (seq = last()) !== undefined) this.#take(seq, ["process/closed", {}]);
    if (read.exited && this.exit === undefined && (seq = last()) !== undefined) {
      this.#take(seq, ["process/exited", { ...read.exit, exitCode: read.exitCode }]);
    }
    if (missing.length > 0) this.lost("output was lost while the connection was away");
  }

  lost(reason: string): void {
    if (this.over) return;
    const error = new ConnectionLost(reason);
    this.#failed(error);
    this.#finish(error);
  }

  #take(seq: number, what: [string, any]): void {
    if (seq <= this.published) return;
    this.#held.set(seq, what);
    for (let next; (next = this.#held.get(this.published + 1)) !== undefined; ) {
      this.#held.delete(++this.published);
      this.#publish(...next);
    }
  }

  #publish(kind: string, what: any): void {
    if (kind === "process/exited") {
      this.exit = { exitCode: what.exitCode, signal: what.signal ?? null, timedOut: what.timedOut ?? false };
      this.#exited(this.exit);
    } else if (kind === "process/closed") this.#finish();
    else {
      this.queued += what.length;
      (kind === "stderr" ? this.#err : this.#out).put(what);
    }
  }

  #finish(failure?: Error): void {
    this.over = true;
    this.connection.followers.delete(this.id);
    for (const stream of [this.#out, this.#err]) {
      if (failure !== undefined) stream.on("error", () => {});
      stream.put(null, failure);
    }
  }

  // ---- handles

  /** All that another process needs to go on. Nobody reads the streams any more after this. */
  toJSON(): Json {
    const unread = (stream: Output) => {
      const buffered = stream.read() as Buffer | null;
      return Buffer.concat([buffered ?? Buffer.alloc(0), stream.unread()]).toString("base64");
    };
    const exit = this.exit ?? null;
    return { published: this.published, stdout: unread(this.#out), stderr: unread(this.#err), exit };
  }

  /** Goes on where another process has stopped. */
  fromJSON(known: Json): void {
    this.published = known.published;
    for (const [stream, text] of [[this.#out, known.stdout], [this.#err, known.stderr]] as const) {
      const bytes = Buffer.from(text, "base64");
      if (bytes.length === 0) continue;
      this.queued += bytes.length;
      stream.put(bytes);
    }
    if (known.exit !== null) this.#exited((this.exit = known.exit));
  }
}
