// A terminal on the page: xterm.js, its size, its search, and what is typed.

import { FitAddon } from "../vendor/addon-fit.mjs";
import { SearchAddon } from "../vendor/addon-search.mjs";
import { Terminal } from "../vendor/xterm.mjs";
import { quiet } from "./quiet.js";
import { terminalTheme, whenThemeChanges } from "./theme.js";

/** Lines above the screen that can be scrolled back to. */
const SCROLLBACK = 5000;
const LEAVE = "\x1c";
/** A second Ctrl-\ within this time is for the program. */
const SECOND_KEY_MS = 500;

/** xterm.js makes style elements, which the page's policy lets in by their nonce. */
function admitStyles() {
  const nonce = document.querySelector("meta[name=style-nonce]").content;
  const make = Document.prototype.createElement;
  if (document.createElement !== make) return;
  document.createElement = function createElement(name, options) {
    const element = make.call(document, name, options);
    if (name === "style") element.nonce = nonce;
    return element;
  };
}

export class Screen {
  #fit = new FitAddon();
  #search = new SearchAddon();
  #typing = false;
  #leaving;
  #follows = null;
  #encoder = new TextEncoder();

  /** `on` has `type(bytes)`, `resize(rows, cols)` and `leave()`. */
  constructor(box, on, signal) {
    admitStyles();
    this.box = box;
    this.term = new Terminal({
      scrollback: SCROLLBACK, cursorBlink: false, disableStdin: true, minimumContrastRatio: 4.5, linkHandler: { activate() {} },
      fontFamily: "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
      fontSize: Number(localStorage.getItem("fontSize")) || 14, theme: terminalTheme(),
      screenReaderMode: localStorage.getItem("screenReader") === "yes", macOptionIsMeta: true,
    });
    this.term.loadAddon(this.#fit);
    this.term.loadAddon(this.#search);
    quiet(this.term);
    this.term.open(box);
    this.term.textarea.setAttribute("aria-label", "Terminal");
    this.term.onData((text) => this.#typed(text, on));
    this.term.onBinary((text) => this.#typing && on.type(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    this.term.onResize(({ rows, cols }) => this.#typing && on.resize(rows, cols));
    // Keys of the page reach it while nobody types.
    this.term.attachCustomKeyEventHandler((event) => this.#typing || event.ctrlKey);
    const observer = new ResizeObserver(() => this.fit());
    observer.observe(box);
    whenThemeChanges((theme) => { this.term.options.theme = theme; }, signal);
    signal.addEventListener("abort", () => {
      observer.disconnect();
      clearTimeout(this.#leaving);
      this.term.dispose();
    });
  }

  #typed(text, on) {
    if (!this.#typing) return;
    if (text === LEAVE && this.#leaving === undefined) {
      this.#leaving = setTimeout(() => {
        this.#leaving = undefined;
        on.leave();
      }, SECOND_KEY_MS);
      return;
    }
    clearTimeout(this.#leaving);
    this.#leaving = undefined;
    on.type(this.#encoder.encode(text));
  }

  /** Fills the box, or keeps to the size that others have given the program. */
  fit() {
    if (this.#typing || !this.#follows) this.#fit.fit();
    else this.term.resize(this.#follows.cols, this.#follows.rows);
  }

  /** The program's own terminal has this size. */
  follow(rows, cols) {
    this.#follows = rows && cols ? { rows, cols } : null;
    this.fit();
  }

  /** What is typed goes to the program, whose terminal takes the size of this one. */
  setTyping(typing, on) {
    this.#typing = typing;
    this.term.options.disableStdin = !typing;
    this.term.options.cursorBlink = typing;
    this.fit();
    if (typing) {
      on.resize(this.term.rows, this.term.cols);
      this.term.focus();
    } else {
      this.term.blur();
    }
  }

  /** Shows output, and calls back once it is drawn. */
  write(bytes, isPipe, drawn) {
    this.term.options.convertEol = isPipe;
    this.term.write(bytes, drawn);
  }

  /** Says something between the program's lines. */
  note(text) {
    this.term.write(`\x1b[0m\r\n\x1b[7m ${text} \x1b[0m\r\n`);
  }

  find(text, back) {
    return back ? this.#search.findPrevious(text) : this.#search.findNext(text);
  }

  scaleText(step) {
    const size = Math.min(32, Math.max(8, this.term.options.fontSize + step));
    localStorage.setItem("fontSize", size);
    this.term.options.fontSize = size;
    this.fit();
  }

  setScreenReader(on) {
    localStorage.setItem("screenReader", on ? "yes" : "no");
    this.term.options.screenReaderMode = on;
  }
}
