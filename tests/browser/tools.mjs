// What the story is made of: programs that run, and a window of a browser.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import puppeteer from "puppeteer-core";

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");
/** Far more than anything takes on a healthy machine. */
const PATIENCE = 40_000;
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 780 };

export async function step(what, act) {
  const begun = Date.now();
  try {
    await act();
  } catch (error) {
    error.message = `${what}: ${error.message}`;
    throw error;
  }
  console.log(`${what} (${Date.now() - begun} ms)`);
}

function firstLine(child) {
  return new Promise((resolve, reject) => {
    readline.createInterface({ input: child.stdout }).once("line", resolve);
    child.once("exit", (code) => reject(new Error(`${child.spawnargs.join(" ")} ended with ${code}`)));
  });
}

/** A server, and a console that shows it as `box`, and `gone`, which nobody can reach. */
export class Codex {
  static async start(program) {
    const codex = new Codex();
    codex.program = program;
    codex.ground = fs.mkdtempSync(path.join(os.tmpdir(), "console-"));
    codex.env = {
      PATH: process.env.PATH, HOME: codex.ground, CODEX_HOME: path.join(codex.ground, ".codex"), SHELL: "/bin/sh", PS1: "$ ",
      XDG_STATE_HOME: path.join(codex.ground, "state"), XDG_RUNTIME_DIR: codex.ground,
    };
    fs.mkdirSync(codex.env.CODEX_HOME);
    codex.port = 0;
    await codex.startServer();
    const environments = `include_local = false\n[[environments]]\nid = "box"\nurl = "ws://127.0.0.1:${codex.port}"\n[[environments]]\nid = "gone"\nurl = "ws://127.0.0.1:1"\n`;
    fs.writeFileSync(path.join(codex.env.CODEX_HOME, "environments.toml"), environments);
    codex.console = codex.run(["exec-server", "console"]);
    codex.first = await firstLine(codex.console);
    codex.origin = new URL(codex.first).origin;
    return codex;
  }

  run(words) {
    return spawn(this.program, words, { env: this.env, cwd: this.ground, stdio: ["ignore", "pipe", "inherit"] });
  }

  async startServer() {
    this.server = this.run(["exec-server", "--listen", `ws://127.0.0.1:${this.port}`]);
    this.port = new URL(await firstLine(this.server)).port;
  }

  stopServer() {
    return this.stop(this.server, "SIGKILL");
  }

  stop(child, signal) {
    return new Promise((resolve) => {
      child.removeAllListeners("exit");
      child.once("exit", resolve);
      child.kill(signal);
    });
  }

  async link() {
    return this.first;
  }

  async end() {
    await this.stop(this.console, "SIGTERM");
    await this.stop(this.server, "SIGTERM");
    fs.rmSync(this.ground, { recursive: true, force: true });
  }
}

/** A page that somebody looks at. */
export class Window {
  static async open(chromium, output) {
    const browser = await puppeteer.launch({
      executablePath: chromium, headless: true, defaultViewport: DESKTOP, protocolTimeout: PATIENCE,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"],
    });
    const window = new Window();
    Object.assign(window, { browser, output, context: browser.defaultBrowserContext() });
    await window.begin();
    return window;
  }

  async begin() {
    this.page = await this.context.newPage();
    this.page.setDefaultTimeout(PATIENCE);
    this.outside = [];
    this.page.on("request", (request) => {
      if (!/^(http:\/\/127\.0\.0\.1:|data:|blob:)/.test(request.url())) this.outside.push(request.url());
    });
    this.page.on("pageerror", (error) => { throw error; });
    this.page.on("console", (message) => {
      if (message.type() === "error" && !/status of 4\d\d|WebSocket/.test(message.text())) throw new Error(`the page says: ${message.text()}`);
    });
    await this.page.evaluateOnNewDocument(() => {
      globalThis.sockets = [];
      globalThis.WebSocket = class extends WebSocket {
        constructor(...words) {
          super(...words);
          globalThis.sockets.push(this);
        }
      };
    });
    if (process.env.PAGE) await this.fromDisk(process.env.PAGE);
  }

  /** While the page is worked on: its files as they are on disk. */
  async fromDisk(folder) {
    const kinds = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
    await this.page.setRequestInterception(true);
    this.page.on("request", (request) => {
      const file = new URL(request.url()).pathname.match(/^\/page\/(?!vendor)(.*)$/)?.[1];
      if (!file) return request.continue();
      return request.respond({ contentType: kinds[path.extname(file)], body: fs.readFileSync(path.join(folder, file)) });
    });
  }

  /** A window of somebody else. */
  async another() {
    const window = new Window();
    Object.assign(window, { browser: this.browser, output: this.output, context: await this.browser.createBrowserContext() });
    await window.begin();
    return window;
  }

  visit(url) {
    return this.page.goto(url);
  }

  async until(what, holds, ...words) {
    await this.page.waitForFunction(holds, { polling: 50 }, ...words).catch(async (error) => {
      const shown = await this.page.evaluate(() => document.body.innerText);
      await this.page.screenshot({ path: path.join(this.output, "failed.png") });
      throw new Error(`${what} did not happen (${error.message}); shown is:\n${shown}`);
    });
  }

  /** Waits for an element with this text. */
  has(selector, text) {
    return this.until(`${selector} with ${JSON.stringify(text)}`, (selector, text) =>
      [...document.querySelectorAll(selector)].some((one) => (text === "" ? one.textContent === "" : one.textContent.includes(text))), selector, text);
  }

  async click(selector, text) {
    await this.has(selector, text);
    const handle = await this.page.evaluateHandle((selector, text) => [...document.querySelectorAll(selector)].find((one) => one.textContent.includes(text)), selector, text);
    await handle.click();
  }

  press(key) {
    return this.page.keyboard.press(key);
  }

  type(text) {
    return this.page.keyboard.type(text);
  }

  async leaveTerminal() {
    await this.page.keyboard.down("Control");
    await this.page.keyboard.press("\\");
    await this.page.keyboard.up("Control");
    await this.until("the terminal was left", () => document.activeElement.matches("[data-type]"));
  }

  /** Waits until the terminal shows a text; all that it shows. */
  async shows(text) {
    await this.until(`the terminal shows ${JSON.stringify(text)}`, (text) => {
      const rows = [...document.querySelectorAll(".xterm-rows > div")].map((row) => row.textContent.trimEnd());
      return rows.join("\n").includes(text);
    }, text);
    return this.screen();
  }

  screen() {
    return this.page.evaluate(() => [...document.querySelectorAll(".xterm-rows > div")].map((row) => row.textContent.trimEnd()).join("\n"));
  }

  /** Waits until the terminal shows something of this form; its first group. */
  async matches(form) {
    const begun = Date.now();
    for (;;) {
      const found = (await this.screen()).match(form);
      if (found) return found[1];
      assert.ok(Date.now() - begun < PATIENCE, `the terminal does not show ${form}: ${await this.screen()}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** How long keys wait to be handled, sorted. */
  async delays(count) {
    await this.page.evaluate(() => {
      globalThis.delays = [];
      addEventListener("keydown", (event) => globalThis.delays.push(performance.now() - event.timeStamp), { capture: true });
    });
    for (let at = 0; at < count; at += 1) await this.page.keyboard.press("x");
    return this.page.evaluate(() => globalThis.delays.sort((one, other) => one - other));
  }

  /** What is saved by something that is done. */
  async download(act) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "console-saved-"));
    const client = await this.browser.target().createCDPSession();
    await client.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder, eventsEnabled: true });
    const done = new Promise((resolve, reject) => {
      client.on("Browser.downloadProgress", ({ state }) => {
        if (state === "completed") resolve();
        if (state === "canceled") reject(new Error("the download broke off"));
      });
    });
    await act();
    await done;
    const [name] = fs.readdirSync(folder);
    const content = fs.readFileSync(path.join(folder, name), "utf8");
    fs.rmSync(folder, { recursive: true });
    return content;
  }

  /** Takes screenshots at both widths and in both colours, and has axe look at each. */
  async look(name) {
    for (const [width, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
      await this.page.setViewport(size);
      for (const theme of ["light", "dark"]) {
        await this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }, { name: "prefers-reduced-motion", value: "reduce" }]);
        await this.until("the theme", (theme) => document.documentElement.dataset.theme === theme, theme);
        await this.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
        await this.page.screenshot({ path: path.join(this.output, `${name}-${width}-${theme}.png`) });
        await this.check(`${name}, ${width}, ${theme}`);
      }
      const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name} is ${wide} pixels wider than a ${width}`);
    }
    await this.page.setViewport(DESKTOP);
    await this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  }

  async check(what) {
    await this.page.evaluate(AXE);
    const found = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    const told = found.violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`).join("; ")}`);
    assert.deepEqual(told, [], what);
    assert.deepEqual(this.outside, [], "requests to the outside");
  }

  close() {
    return this.browser.close();
  }
}
