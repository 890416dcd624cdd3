// The console's real page in a real browser, against real servers: `node story.mjs CODEX CHROMIUM OUTPUT`.
// Screenshots go to OUTPUT. It says `fine` at its end.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { Codex, Window, step } from "./tools.mjs";

const [codex, chromium, output] = process.argv.slice(2);
fs.mkdirSync(output, { recursive: true });
const programs = await Codex.start(codex);
const window = await Window.open(chromium, output);

await step("a link signs in, once, and leaves no trace in the address", async () => {
  await window.visit(await programs.link());
  await window.has("h2", "box");
  assert.equal(new URL(await window.page.url()).hash, "");
  await window.has(".pill", "ready");
  await window.has(".reason", "can't reach the exec-server");
  await window.look("environments");
});

await step("a terminal is opened and typed into with keys alone", async () => {
  await window.page.keyboard.press("j");
  await window.page.keyboard.press("Enter");
  await window.has("h1", "box");
  await window.has("p", "Nothing runs here.");
  await window.press("n");
  await window.has(".pill", "running");
  await window.has(".linked", "");
  await window.press("t");
  await window.has("button", "Stop typing");
  await window.type("echo $((6 * 7))\r");
  await window.shows("42");
  await window.type("printf '\\033[31mred\\033[0m \\033[38;2;200;200;0mtrue colour\\033[0m\\n'\r");
  await window.shows("true colour");
  await window.look("terminal");
});

await step("the program's terminal has the size of the page's", async () => {
  const sizes = [];
  for (const width of [1280, 700]) {
    await window.page.setViewport({ width, height: 800 });
    await window.type(`clear; echo size:$(stty size):${width}\r`);
    sizes.push(await window.matches(new RegExp(`size:(\\d+ \\d+):${width}`)));
  }
  assert.notEqual(sizes[0], sizes[1]);
  await window.page.setViewport({ width: 1280, height: 800 });
});

await step("a connection that is lost comes back, and nothing is shown twice", async () => {
  await window.type("clear; echo be''fore\r");
  await window.shows("before");
  await window.page.evaluate(() => globalThis.sockets.at(-1).close());
  await window.until("another socket", () => globalThis.sockets.at(-1).readyState === 1 && globalThis.sockets.length > 1);
  await window.has(".linked", "");
  await window.type("echo af''ter\r");
  const shown = await window.shows("after");
  assert.equal(shown.split("before").length, 2, shown);
});

await step("a flood leaves the page answering", async () => {
  await window.type("yes\r");
  await window.shows("y\ny\ny");
  const delays = await window.delays(20);
  console.log(`delay of a key during a flood: ${delays.map(Math.round).join(" ")} ms`);
  assert.ok(delays[10] < 500, "half of the keys are handled in time, also on a busy machine");
  await window.page.keyboard.down("Control");
  await window.page.keyboard.press("c");
  await window.page.keyboard.up("Control");
  await window.type("clear; echo st''ill\r");
  await window.shows("still");
});

await step("the log is searched and followed", async () => {
  await window.type("clear; seq 1000 1999 && echo do''ne\r");
  await window.shows("done");
  await window.leaveTerminal();
  await window.click("a.button", "Log");
  await window.has(".log pre", "done");
  await window.press("/");
  await window.page.keyboard.type("1500\n");
  await window.has(".found li", "1500");
  await window.look("log");
  await window.page.focus("[data-search]");
  await window.press("Escape");
  await window.press("u");
  await window.has("button", "Type");
});

await step("files are uploaded, viewed and downloaded", async () => {
  const content = `hello\n${"0123456789".repeat(20000)}\n`;
  const file = path.join(programs.ground, "up \u00f8.txt");
  fs.writeFileSync(file, content);
  fs.mkdirSync(path.join(programs.ground, "there"));
  await window.visit(`${programs.origin}/#/e/box/files?path=${encodeURIComponent(path.join(programs.ground, "there"))}`);
  await window.has("p", "This directory is empty.");
  await (await window.page.$("#upload")).uploadFile(file);
  await window.has("td", "up \u00f8.txt");
  assert.equal(fs.readFileSync(path.join(programs.ground, "there", "up \u00f8.txt"), "utf8"), content);
  await window.look("files");
  await window.click("td button", "up \u00f8.txt");
  await window.has(".viewed", "hello");
  await window.look("file");
  const saved = await window.download(() => window.click("dialog a", "Download"));
  assert.equal(saved, content);
  await window.page.keyboard.press("Escape");
});

await step("a port is forwarded", async () => {
  await window.visit(`${programs.origin}/#/forwards`);
  await window.has("option", "box");
  await window.page.select("select", "box");
  await window.page.type("input[type=number]", String(programs.port));
  await window.click("button", "Forward");
  await window.has("td", `127.0.0.1:${programs.port}`);
  await window.look("forwards");
});

let guest;
await step("a link to look is made, opened, and looks only", async () => {
  await window.visit(`${programs.origin}/#/links`);
  await window.has("button", "Make a link");
  await window.page.type("input[type=text]", "a colleague");
  await window.click("button", "Make a link");
  await window.has("dialog h2", "A new link");
  const link = await window.page.$eval("dialog input", (input) => input.value);
  await window.look("link");
  await window.page.keyboard.press("Escape");
  guest = await window.another();
  await guest.visit(link);
  await guest.has(".role", "look");
  await guest.visit(`${programs.origin}/#/e/box`);
  await guest.has("td code", "/bin/");
  assert.equal((await guest.page.$$("[data-new]")).length, 0);
  await guest.page.click("td a.cover");
  await guest.shows("done");
  assert.equal(await guest.page.$eval("[data-type]", (button) => button.hidden), true);
});

await step("a link that is revoked shows nothing any more, at once", async () => {
  const row = "a colleague";
  await window.has("td", row);
  const revoked = Date.now();
  await window.page.click(`button[aria-label="Revoke ${row}"]`);
  await guest.has("h1", "You are not signed in");
  console.log(`a revoked link was noticed after ${Date.now() - revoked} ms`);
  await guest.look("signed-out");
});

await step("a link that has expired shows nothing any more, by itself", async () => {
  const link = await window.page.evaluate(async () => {
    const body = JSON.stringify({ role: "type", scope: { of: "environment", environment: "box" }, seconds: 8 });
    const answer = await fetch("api/links", { method: "POST", body, headers: { "content-type": "application/json" } });
    return (await answer.json()).url;
  });
  await guest.visit(link);
  await guest.has(".role", "look and type");
  await guest.visit(`${programs.origin}/#/e/box`);
  await guest.has("h1", "You are not signed in");
});

await step("a server that starts anew is shown again, and what ran there is told to be gone", async () => {
  await window.visit(`${programs.origin}/#/e/box`);
  await window.page.waitForSelector("td a.cover");
  await window.page.click("td a.cover");
  await window.has("button", "Type");
  await programs.stopServer();
  await window.has(".linked", "away");
  await programs.startServer();
  await window.has(".linked", "started anew");
  await window.visit(`${programs.origin}/#/e/box`);
  await window.has("p", "Nothing runs here.");
  await window.press("n");
  await window.has(".pill", "running");
});

await window.close();
await programs.end();
console.log("fine");
