// Keys that hold everywhere but where somebody types.

import { ask, h } from "./dom.js";
import { go } from "./router.js";

const KEYS = [
  ["?", "this list"],
  ["/", "search or filter"],
  ["n", "a new terminal, or whatever is new here"],
  ["j, k or ↓, ↑", "the next or the last row"],
  ["Enter", "open it"],
  ["u", "one level up"],
  ["g then e, f, l", "environments, forwards, links"],
  ["t", "in a terminal: type into it"],
  ["End", "in a terminal or a log: jump to the end"],
  ["Ctrl-\\", "while typing: leave the terminal; twice: the program gets it"],
];

function types(target) {
  return target.closest("input, textarea, select, [contenteditable], .xterm, dialog") !== null;
}

function row(step) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
  const at = rows.findIndex((row) => row === document.activeElement);
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
  next?.focus();
  return next !== undefined;
}

const click = (selector) => {
  const target = document.querySelector(selector);
  target?.click();
  return Boolean(target);
};

const ACTIONS = {
  "?": () => help(),
  "/": () => {
    const target = document.querySelector("[data-search]");
    target?.focus();
    return Boolean(target);
  },
  n: () => click("[data-new]"),
  u: () => click("[data-up]"),
  t: () => click("[data-type]"),
  End: () => click("[data-end]"),
  j: () => row(1),
  ArrowDown: () => row(1),
  k: () => row(-1),
  ArrowUp: () => row(-1),
};

const PLACES = { e: [], f: ["forwards"], l: ["links"] };

export function help() {
  ask("Keys", h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
  return true;
}

export function listen() {
  let goes = 0;
  document.addEventListener("keydown", (event) => {
    // A field gives the keys back.
    if (event.key === "Escape" && event.target.matches("main input, main select")) event.target.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || types(event.target)) return;
    if (event.key === "g") {
      goes = Date.now();
      return;
    }
    const place = Date.now() - goes < 1500 ? PLACES[event.key] : undefined;
    goes = 0;
    if (place) {
      go(place);
      event.preventDefault();
    } else if (ACTIONS[event.key]?.()) {
      event.preventDefault();
    }
  });
}
