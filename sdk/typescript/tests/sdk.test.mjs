// The library against the built server. Started by tests/tests/e2e/sdk.rs, which says in variables where the binary is.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { connect as connectSocket, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { ConnectionLost, RequestFailed, connect } from "../dist/index.js";

const codex = process.env.CODEX_BINARY;

async function withServer(use) {
  const ground = await mkdtemp(join(tmpdir(), "codex-ts-"));
  const place = `unix://${ground}/socket`;
  const child = spawn(codex, ["exec-server", "--listen", place], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((ready) => child.stdout.once("data", ready));
  try {
    return await use(place, ground);
  } finally {
    child.kill();
    await new Promise((ended) => child.once("exit", ended));
    await rm(ground, { recursive: true });
  }
}

/** A Unix socket that leads to another, and cuts each connection after so many bytes for the client. */
async function cutter(target, path, cuts) {
  let made = 0;
  const server = createServer((client) => {
    let left = cuts[made++] ?? Infinity;
    const there = connectSocket(target.slice("unix://".length));
    for (const socket of [client, there]) socket.on("error", () => {});
    client.pipe(there);
    there.on("data", (piece) => {
      const part = piece.subarray(0, Math.min(left, piece.length));
      left -= part.length;
      client.write(part, () => left === 0 && (client.destroy(), there.destroy()));
    });
    there.on("close", () => client.destroy());
    client.on("close", () => there.destroy());
  });
  await new Promise((ready) => server.listen(path, ready));
  return { place: `unix://${path}`, made: () => made, close: () => server.close() };
}

const text = async (stream) => Buffer.concat(await Array.fromAsync?.(stream) ?? (await collect(stream))).toString();
async function collect(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

async function theUsual(env, ground) {
  const done = await env.run(["sh", "-c", "cat; echo err >&2; exit 3"], { input: "in" });
  assert.deepEqual([done.exitCode, done.stdout.toString(), done.stderr.toString()], [3, "in", "err\n"]);
  const terminal = await env.start(["cat"], { tty: true });
  terminal.stdin.write("typed\n\x04");
  assert.match(await text(terminal.stdout), /typed/);
  assert.equal((await terminal.wait()).exitCode, 0);
  const path = `${ground}/a b/ä.txt`;
  await env.files.mkdir(`${ground}/a b`);
  await env.files.write(path, "text");
  assert.equal((await env.files.read(path)).toString(), "text");
  assert.equal((await env.files.stat(path)).size, 4);
  assert.deepEqual((await env.files.list(`${ground}/a b`)).map((entry) => entry.fileName), ["ä.txt"]);
  assert.ok((await env.files.realpath(`${ground}/a b/../a b`)).endsWith("/a b"));
  await env.files.copy(path, `${ground}/copy`);
  await env.files.remove(path);
  await assert.rejects(env.files.read(path), (error) => error instanceof RequestFailed && error.code === -32004);
  await assert.rejects(env.run(["/no/such/program"]), RequestFailed);
}

test("every way", async () => {
  await withServer(async (place, ground) => {
    const ways = [place, [codex, "exec-server", "--listen", "stdio"], [codex, "exec-server", "connect", "--url", place, "--stdio"]];
    for (const way of ways) {
      const env = await connect(way);
      await theUsual(env, ground);
      await env.close();
    }
  });
});

test("signals, deadlines and HTTP", async () => {
  const origin = createHttpServer((_, answer) => answer.writeHead(201, { "x-a": "1" }).end("body"));
  await new Promise((ready) => origin.listen(0, "127.0.0.1", ready));
  await withServer(async (place) => {
    const env = await connect(place);
    const script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.01; done";
    const trapped = await env.start(["sh", "-c", script]);
    await new Promise((ready) => trapped.stdout.once("data", ready));
    await trapped.signal("interrupt");
    assert.equal((await trapped.wait()).exitCode, 7);
    assert.equal((await env.run(["sleep", "1000"], { timeoutMs: 50 })).timedOut, true);
    const killed = await env.start(["sleep", "1000"]);
    assert.equal(await killed.kill(), true);
    assert.equal((await killed.wait()).signal, 9);
    const answer = await env.fetch(`http://127.0.0.1:${origin.address().port}/`);
    assert.deepEqual([answer.status, answer.body.toString()], [201, "body"]);
    assert.ok(answer.headers.some(([name, value]) => name === "x-a" && value === "1"));
    await env.close();
  });
  origin.close();
});

test("a cut loses and doubles nothing", async () => {
  const script = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; read a; echo got $a; exit 5";
  const expected = Array.from({ length: 300 }, (_, i) => `line ${i}\n`).join("") + "got it\n";
  await withServer(async (place, ground) => {
    let [number, resumed] = [0, 0];
    for (let cut = 2000; cut < 20000; cut += 371) {
      const through = await cutter(place, `${ground}/cut-${number++}`, [cut, Math.trunc(cut / 2) + 1500]);
      const env = await connect(through.place);
      try {
        const started = await env.start(["sh", "-c", script], { stdin: true });
        started.stdin.write("it\n");
        assert.equal(await text(started.stdout), expected, `cut after ${cut}`);
        assert.equal((await started.wait()).exitCode, 5, `cut after ${cut}`);
      } catch (error) {
        // Cut before the answer to the start: that is said, and nothing else is promised.
        if (!(error instanceof ConnectionLost) || !String(error).includes("process/start")) throw error;
      }
      resumed += through.made() > 1 ? 1 : 0;
      await env.close();
      through.close();
    }
    assert.ok(resumed > 5, `only ${resumed} connections were cut in time`);
  });
});

test("a handle is picked up by another process", async () => {
  await withServer(async (place) => {
    const env = await connect(place);
    const started = await env.start(["sh", "-c", "echo one; read a; echo got $a; exit 4"], { stdin: true });
    await new Promise((ready) => started.stdout.once("data", ready));
    const handle = await env.detach();
    const program = `
      import { connect } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
      const env = await connect(process.argv[1], { handle: process.argv[2] });
      const [it] = env.processes();
      it.stdin.write("it\\n");
      let text = "";
      for await (const piece of it.stdout) text += piece;
      console.log(text, (await it.wait()).exitCode);
      await env.close();
    `;
    const node = promisify(execFile)(process.execPath, ["--input-type=module", "-e", program, place, handle]);
    assert.equal((await node).stdout, "got it\n 4\n");
  });
});

test("a slow reader makes the program wait and loses nothing", async () => {
  await withServer(async (place) => {
    const env = await connect(place);
    const flood = await env.start(["sh", "-c", "yes 0123456789abcde | head -c 50000000"]);
    await new Promise((ready) => flood.stdout.once("readable", ready));
    assert.equal((await env.files.stat("/")).isDirectory, true);
    assert.ok(flood.queued < 20 << 20);
    let bytes = 0;
    for await (const piece of flood.stdout) bytes += piece.length;
    assert.equal(bytes, 50_000_000);
    await env.close();
  });
});

test("the example of the README", async () => {
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  await withServer(async (place) => {
    const example = readme
      .split("```ts\n")[1]
      .split("```")[0]
      .replace('"codex-exec"', JSON.stringify(new URL("../dist/index.js", import.meta.url).href))
      .replace("unix:///run/user/1000/exec.sock", place);
    const node = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", example]);
    assert.equal(node.stdout, "Linux\n");
  });
});
