// The official TypeScript libraries as clients of `codex exec-server mcp`: both revisions, over pipes and HTTP.
//
// Arguments: the binary, and the address of the tools over HTTP. Started by tests/tests/e2e/mcp/official.rs.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as two from "@modelcontextprotocol/client";
import { StdioClientTransport as StdioTwo } from "@modelcontextprotocol/client/stdio";
import { Client as ClientOne } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioOne } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as HttpOne } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [codex, url] = process.argv.slice(2);
const pipes = { command: codex, args: ["exec-server", "mcp"] };
const me = { name: "official", version: "1" };

/** Each library, and what revision it speaks; `one` lists, calls and listens as version 1 of the library does. */
const LIBRARIES = [
  {
    name: "sdk, 2025-11-25",
    client: () => new ClientOne(me),
    pipes: () => new StdioOne(pipes),
    http: () => new HttpOne(new URL(url)),
    call: (client, tool, options) => client.callTool(tool, undefined, options),
  },
  {
    name: "client, 2025-11-25",
    client: () => new two.Client(me, { versionNegotiation: { mode: "legacy" } }),
    pipes: () => new StdioTwo(pipes),
    http: () => new two.StreamableHTTPClientTransport(new URL(url)),
    call: (client, tool, options) => client.callTool(tool, options),
  },
  {
    name: "client, 2026-07-28",
    client: () => new two.Client(me, { versionNegotiation: { mode: "auto" } }),
    version: "2026-07-28",
    pipes: () => new StdioTwo(pipes),
    http: () => new two.StreamableHTTPClientTransport(new URL(url)),
    call: (client, tool, options) => client.callTool(tool, options),
  },
];

const ground = mkdtempSync(join(tmpdir(), "official-"));
let gates = 0;

/** A file that a program waits for, and the command that does. */
function gate() {
  const path = join(ground, `gate-${++gates}`);
  return { wait: `until test -e ${path}; do sleep 0.01; done`, open: () => writeFileSync(path, "") };
}

async function using(library, way, use) {
  const client = library.client();
  await client.connect(library[way]());
  try {
    const call = (name, args, options) => library.call(client, { name, arguments: args }, options);
    const data = async (name, args) => {
      const result = await call(name, args);
      assert.notEqual(result.isError, true, JSON.stringify(result));
      return result.structuredContent;
    };
    return await use({ client, call, data });
  } finally {
    await client.close();
  }
}

const known = async (data, process) =>
  (await data("exec_list", {})).processes.filter((line) => line.process === process);

async function theUsual(library, { client, call, data }) {
  if (library.version !== undefined) assert.equal(client.getNegotiatedProtocolVersion(), library.version);
  assert.equal(client.getServerVersion().name, "codex-exec-server");
  const names = (await client.listTools()).tools.map((tool) => tool.name);
  assert.equal(names.length, 13);
  const done = await data("exec", { command: "echo from node; exit 4" });
  assert.deepEqual([done.output, done.exit_code], ["from node\n", 4]);
  const wrong = await call("exec_read", { process: "nobody" });
  assert.equal(wrong.isError, true);
  assert.match(wrong.content[0].text, /no process/);
}

/** Hears of progress while a call goes on, which ends when it has been heard of twice. */
async function streams({ call }) {
  const heard = [];
  const { wait, open } = gate();
  const onprogress = ({ progress, message }) => {
    heard.push([progress, message]);
    if (heard.length === 2) open();
  };
  const done = await call("exec", { command: `echo begun; ${wait}`, yield_ms: 45000 }, { onprogress });
  assert.equal(done.structuredContent.exit_code, 0);
  assert.ok(heard[0][0] < heard[1][0]);
  assert.equal(heard[0][1], "running, 6 bytes printed");
}

/** Gives a call up; the program goes on, and so does everything else. */
async function cancels({ call, data }) {
  const { wait, open } = gate();
  const { process } = await data("exec", { command: `${wait}; echo end`, yield_ms: 0 });
  const given = new AbortController();
  setTimeout(() => given.abort(), 300);
  await assert.rejects(call("exec_read", { process, yield_ms: 45000 }, { signal: given.signal }));
  assert.deepEqual((await known(data, process)).map((line) => line.state), ["running"]);
  open();
  const end = await data("exec_read", { process, cursor: 0, yield_ms: 45000 });
  assert.deepEqual([end.state, end.output], ["exited", "end\n"]);
}

/** 200 at once: each is answered, or told that there are 64 already. */
async function many({ call, data }) {
  const numbers = Array.from({ length: 200 }, (_, number) => number);
  const results = await Promise.all(numbers.map((number) => call("exec", { argv: ["echo", String(number)] })));
  let right = 0;
  results.forEach((result, number) => {
    if (result.isError) assert.match(result.content[0].text, /64 programs run already/);
    else {
      assert.equal(result.structuredContent.output, `${number}\n`);
      right++;
    }
  });
  assert.ok(right >= 64, String(right));
  assert.ok((await data("exec_list", {})).processes.length <= 64);
}

/** What one client began, and left without a word, another finishes. */
async function anotherGoesOn(library) {
  const { wait, open } = gate();
  const begun = await using(library, "http", ({ data }) =>
    data("exec", { command: `echo one; ${wait}; echo two`, yield_ms: 0 }),
  );
  await using(library, "http", async ({ data }) => {
    assert.equal((await known(data, begun.process)).length, 1);
    open();
    const end = await data("exec_read", { process: begun.process, cursor: 0, yield_ms: 45000 });
    assert.deepEqual([end.state, end.output], ["exited", "one\ntwo\n"]);
  });
}

async function theEndEndsPrograms(library) {
  const pid = await using(library, "pipes", async ({ data }) => {
    const started = await data("exec", { command: "echo $$; exec sleep 1000", yield_ms: 0 });
    let shown = started.output;
    while (shown === "") {
      shown = (await data("exec_read", { process: started.process, cursor: 0, yield_ms: 50 })).output;
    }
    return Number(shown);
  });
  for (let look = 0; look < 500; look++) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((again) => setTimeout(again, 20));
  }
  assert.fail("the program outlives its client");
}

try {
  for (const library of LIBRARIES) {
    for (const way of ["pipes", "http"]) {
      await using(library, way, async (there) => {
        await theUsual(library, there);
        await streams(there);
        await cancels(there);
        if (way === "pipes") await many(there);
      });
    }
    await anotherGoesOn(library);
    await theEndEndsPrograms(library);
  }
  console.log("fine");
} finally {
  rmSync(ground, { recursive: true });
}
