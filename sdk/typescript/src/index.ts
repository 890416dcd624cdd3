// Uses another machine through an exec-server: programs, files and HTTP.

import { randomUUID } from "node:crypto";
import type { Readable } from "node:stream";

import { Connection, type Json } from "./connection.js";
import { Files, pathOf, uri } from "./files.js";
import type { Place } from "./links.js";
import { type Completed, Process } from "./process.js";

export { ConnectionLost, ExecError, RequestFailed } from "./errors.js";
export { type Entry, Files, type Metadata } from "./files.js";
export type { Place } from "./links.js";
export { type Completed, type Exit, Process, type Signal } from "./process.js";

/** How a program is started. */
export interface StartOptions {
  /** Its working directory; default: where the server works. */
  cwd?: string;
  /** Variables to add. */
  env?: Record<string, string>;
  /** Whether it gets the server's variables, too; default true. */
  inheritEnv?: boolean;
  /** Give it a pipe as standard input. */
  stdin?: boolean;
  /** Give it a terminal. */
  tty?: boolean;
  rows?: number;
  cols?: number;
  /** End it after so many milliseconds. */
  timeoutMs?: number;
}

/** An HTTP answer. */
export interface Response {
  status: number;
  headers: [string, string][];
  body: Buffer;
}

/** An HTTP request. */
export interface FetchOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: Buffer | string;
  timeoutMs?: number;
}

/** One session on one machine. */
export class Environment {
  readonly files: Files;

  constructor(private readonly connection: Connection) {
    this.files = new Files(connection);
  }

  /** What the machine is, as `environment/info` has it. */
  get info(): Json | undefined {
    return this.connection.info;
  }

  /** Starts a program. */
  async start(argv: readonly string[], options: StartOptions = {}): Promise<Process> {
    const process = new Process(this.connection, randomUUID());
    const params: Json = {
      processId: process.id,
      argv,
      cwd: uri(options.cwd ?? (this.info?.cwd === undefined ? "/" : pathOf(this.info.cwd))),
      env: options.env ?? {},
      tty: options.tty ?? false,
      pipeStdin: (options.stdin ?? false) && !options.tty,
    };
    if (options.inheritEnv ?? true) {
      params.envPolicy = { inherit: "all", ignoreDefaultExcludes: true, exclude: [], set: {}, includeOnly: [] };
    }
    for (const name of ["rows", "cols", "timeoutMs"] as const) {
      if (options[name] !== undefined) params[name] = options[name];
    }
    // Before the start: its first output may come before the answer.
    this.connection.followers.set(process.id, process);
    try {
      await this.connection.call("process/start", params);
    } catch (error) {
      this.connection.followers.delete(process.id);
      throw error;
    }
    return process;
  }

  /** Runs a program to its end, and gives all that it printed. */
  async run(argv: readonly string[], options: StartOptions & { input?: string | Buffer } = {}): Promise<Completed> {
    const { input, ...rest } = options;
    const process = await this.start(argv, { ...rest, stdin: input !== undefined });
    if (input !== undefined) process.stdin.end(input);
    const [stdout, stderr] = await Promise.all([all(process.stdout), all(process.stderr)]);
    return { ...(await process.wait()), stdout, stderr };
  }

  /** Makes an HTTP request from the machine. */
  async fetch(url: string, options: FetchOptions = {}): Promise<Response> {
    const { status, headers, bodyBase64 } = await this.connection.call("http/request", {
      method: options.method ?? "GET",
      url,
      headers: Object.entries(options.headers ?? {}).map(([name, value]) => ({ name, value })),
      bodyBase64: options.body === undefined ? null : Buffer.from(options.body).toString("base64"),
      timeoutMs: options.timeoutMs ?? null,
      requestId: randomUUID(),
    });
    const pairs = headers.map((header: Json): [string, string] => [header.name, header.value]);
    return { status, headers: pairs, body: Buffer.from(bodyBase64, "base64") };
  }

  /** The programs that are followed and not over. */
  processes(): Process[] {
    return [...this.connection.followers.values()].filter((follower) => follower instanceof Process);
  }

  /** Calls any method of the protocol. */
  call(method: string, params: Json = {}): Promise<Json> {
    return this.connection.call(method, params);
  }

  /** Leaves the session as it is, and gives the handle, as JSON, by which another process picks it up in time. */
  async detach(): Promise<string> {
    const processes = Object.fromEntries(this.processes().map((process) => [process.id, process.toJSON()]));
    const handle = JSON.stringify({ session: this.connection.sessionId, processes });
    await this.connection.close(false);
    return handle;
  }

  /** Ends the session and what runs in it. */
  async close(): Promise<void> {
    await this.connection.close(true);
  }
}

async function all(stream: Readable): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

/**
 * Connects to an exec-server: `unix:///…`, `ws://…` where the platform has websockets, or a command that speaks the protocol over
 * its pipes, such as `["codex", "exec-server", "connect", "-E", "NAME", "--stdio"]`, which leads to any environment.
 * With a `handle` of `detach`, its session is taken up.
 */
export async function connect(place: Place, options: { handle?: string } = {}): Promise<Environment> {
  const connection = new Connection(place);
  const handle = options.handle === undefined ? undefined : (JSON.parse(options.handle) as Json);
  for (const [id, known] of Object.entries(handle?.processes ?? {})) {
    const process = new Process(connection, id);
    process.fromJSON(known as Json);
    connection.followers.set(id, process);
  }
  await connection.open(handle?.session ?? null);
  if (handle !== undefined) {
    for (const [id, follower] of [...connection.followers]) await connection.recover(id, follower);
  }
  return new Environment(connection);
}
