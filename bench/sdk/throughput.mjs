// What the TypeScript client carries: MB/s of a program's output, and small requests a second on one connection.
//
// Started by bench/src/cases/agents.rs beside the built client: PLACE MEGABYTES REQUESTS. Prints one JSON object.

import { connect } from "./dist/index.js";

async function output(env, megabytes) {
  const size = megabytes * 1_000_000;
  const since = performance.now();
  const program = await env.start(["head", "-c", String(size), "/dev/zero"]);
  let total = 0;
  program.stdout.on("data", (piece) => (total += piece.length));
  program.stderr.resume();
  await new Promise((done) => program.stdout.once("end", done));
  const seconds = (performance.now() - since) / 1000;
  if (total !== size) throw new Error(`${total} bytes came instead of ${size}`);
  return megabytes / seconds;
}

async function requests(env, count, atOnce) {
  const some = async () => {
    for (let left = count / atOnce; left > 0; left--) await env.files.stat("/");
  };
  const since = performance.now();
  await Promise.all(Array.from({ length: atOnce }, some));
  return (count / (performance.now() - since)) * 1000;
}

const [place, megabytes, count] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const env = await connect(place);
await output(env, Math.max(1, Math.floor(megabytes / 10)));
const mb_per_s = await output(env, megabytes);
const requests_per_s = await requests(env, count, 16);
const one_by_one_per_s = await requests(env, count / 4, 1);
await env.close();
console.log(JSON.stringify({ mb_per_s, requests_per_s, one_by_one_per_s }));
