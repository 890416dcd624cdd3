// The same story over and over, each time over a connection that is cut behind another message: nothing is lost or doubled, and
// nothing ends that has not.
//
// Started by tests/tests/e2e/sdk.rs, which makes the sockets: that named N cuts its first connection behind N messages.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";

import { ConnectionLost, connect } from "../dist/index.js";

const PROGRAM = "i=0; while [ $i -lt 20 ]; do echo line $i; sleep 0.005; i=$((i+1)); done; echo err >&2; read a; echo got $a; exit 5";
const LINES = Array.from({ length: 20 }, (_, i) => `line ${i}\n`).join("") + "got it\n";

async function text(stream) {
  let all = "";
  for await (const piece of stream) all += piece;
  return all;
}

/** Once more, where the connection was lost: the second one is not cut. */
async function twice(attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    return await attempt();
  }
}

async function story(place) {
  const env = await twice(() => connect(place));
  const started = await twice(() => env.start(["sh", "-c", PROGRAM], { stdin: true }));
  started.stdin.write("it\n");
  const [out, err] = await Promise.all([text(started.stdout), text(started.stderr)]);
  const { exitCode } = await started.wait();
  assert.deepEqual([out, err, exitCode], [LINES, "err\n", 5], place);
  await env.close();
}

const sockets = process.argv[2];
for (const name of readdirSync(sockets).sort((a, b) => a - b)) await story(`unix://${sockets}/${name}`);
