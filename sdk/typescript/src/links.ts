// Ways to a server that carry text messages: a Unix socket, a child's pipes, a websocket.

import { isAscii } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { connect as connectSocket } from "node:net";
import type { Readable, Writable } from "node:stream";

import { ConnectionLost } from "./errors.js";

/** One connection. */
export interface Link {
  send(message: string): void;
  /** Stops and goes on reading, so that a server waits for us. */
  pause(on: boolean): void;
  close(): Promise<void>;
}

/** What a connection tells. */
export interface Listener {
  message(text: string): void;
  ended(reason: string): void;
}

/** Where a server is: `unix:///PATH`, `ws://…`, or a command that speaks the protocol over its pipes. */
export type Place = string | readonly string[];

/** A message of so many bytes is worth a look at what is in it. */
const LONG = 4096;

class LineLink implements Link {
  #left: Buffer[] = [];
  #over = false;

  constructor(
    private readonly input: Readable,
    private readonly output: Writable,
    private readonly listener: Listener,
    private readonly child?: ChildProcess,
  ) {
    input.on("data", (piece: Buffer) => this.#take(piece));
    const end = (reason: string) => {
      if (!this.#over) {
        this.#over = true;
        // What is half gone would keep the process from its end.
        if (child === undefined) input.destroy();
        listener.ended(reason);
      }
    };
    input.on("end", () => end("the connection was lost"));
    input.on("error", (error) => end(`the connection was lost: ${error.message}`));
    output.on("error", (error) => end(`the connection was lost: ${error.message}`));
  }

  #take(piece: Buffer): void {
    let begin = 0;
    for (;;) {
      const end = piece.indexOf(10, begin);
      if (end < 0) break;
      this.#left.push(piece.subarray(begin, end));
      const line = this.#left.length === 1 ? this.#left[0]! : Buffer.concat(this.#left);
      this.#left = [];
      begin = end + 1;
      // Long messages are base64 but for a few characters, and those that are no ASCII are rare: copying is faster than decoding.
      const text = line.length > LONG && isAscii(line) ? line.toString("latin1") : line.toString("utf8");
      if (text.length > LONG || text.trim() !== "") this.listener.message(text);
    }
    if (begin < piece.length) this.#left.push(piece.subarray(begin));
  }

  send(message: string): void {
    this.output.write(message + "\n");
  }

  pause(on: boolean): void {
    if (on) this.input.pause();
    else this.input.resume();
  }

  async close(): Promise<void> {
    this.#over = true;
    this.input.resume();
    this.output.end();
    const child = this.child;
    if (child === undefined) {
      this.input.destroy();
      return;
    }
    if (child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((done) => {
      // A server over pipes ends when its input does.
      const late = setTimeout(() => child.kill("SIGKILL"), 2000);
      child.once("exit", () => {
        clearTimeout(late);
        done();
      });
    });
  }
}

class SocketLink implements Link {
  constructor(private readonly socket: WebSocket) {}

  send(message: string): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
  }

  // The platform's websocket can't be stopped; what waits is bounded by the server, which keeps a session's output.
  pause(): void {}

  async close(): Promise<void> {
    this.socket.close();
  }
}

/** Connects. */
export async function dial(place: Place, listener: Listener): Promise<Link> {
  if (typeof place !== "string") {
    const [program, ...args] = place;
    if (program === undefined) throw new TypeError("a command needs a program");
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    await new Promise<void>((done, failed) => {
      child.once("spawn", done);
      child.once("error", failed);
    });
    return new LineLink(child.stdout, child.stdin, listener, child);
  }
  if (place.startsWith("unix://")) {
    const socket = connectSocket(place.slice("unix://".length));
    await new Promise<void>((done, failed) => {
      socket.once("connect", done);
      socket.once("error", failed);
    });
    return new LineLink(socket, socket, listener);
  }
  if (!/^wss?:\/\//.test(place)) throw new TypeError(`${place} is neither unix://, ws:// nor wss://`);
  if (typeof WebSocket === "undefined") {
    throw new TypeError(
      'this platform has no WebSocket (Node 22 has); use ["codex", "exec-server", "connect", "--url", URL, "--stdio"]',
    );
  }
  const socket = new WebSocket(place);
  const link = new SocketLink(socket);
  await new Promise<void>((done, failed) => {
    socket.onopen = () => done();
    socket.onerror = () => failed(new ConnectionLost(`${place} can't be reached`));
  });
  socket.onmessage = (event) => listener.message(String(event.data));
  socket.onclose = () => listener.ended("the connection was lost");
  return link;
}

/** Whether a session outlives its connection there. */
export function outlives(place: Place): boolean {
  return typeof place === "string";
}
