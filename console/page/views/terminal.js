// One program, live: what it prints, and a way to type into it.

import { address, get, post, process } from "../api.js";
import { ask, attempt, h, repeat, say, select } from "../dom.js";
import { command, isRunning, mood, size, status } from "../format.js";
import { to } from "../router.js";
import { Link } from "../terminal/link.js";
import { Screen } from "../terminal/screen.js";
import { linkForm } from "./links.js";
import { pill } from "./tabs.js";

const SIGNALS = [
  ["end", "End it (SIGTERM, then SIGKILL)"], ["interrupt", "Interrupt (SIGINT)"], ["hangup", "Hang up (SIGHUP)"], ["quit", "Quit (SIGQUIT)"],
  ["user1", "SIGUSR1"], ["user2", "SIGUSR2"], ["stop", "Stop (SIGSTOP)"], ["continue", "Continue (SIGCONT)"], ["kill", "Kill (SIGKILL)"],
];
/** Keys that phones lack. */
const KEYS = [["Esc", "\x1b"], ["Tab", "\t"], ["Ctrl-C", "\x03"], ["Ctrl-D", "\x04"], ["↑", "\x1b[A"], ["↓", "\x1b[B"], ["←", "\x1b[D"], ["→", "\x1b[C"]];

export function terminal(main, view) {
  const { place, session, signal } = view;
  const base = ["e", place.environment, "p", place.session, place.process];
  document.title = `${place.process} · ${place.environment} · Console`;
  let typing = false;
  let tty = true;
  let info = null;

  const name = h("h1", {}, place.process);
  const line = h("code", { class: "argv" });
  const state = h("span", { class: "state" }, pill("connecting", "busy"));
  const link = h("span", { class: "linked", role: "status" });
  const box = h("div", { class: "stage", role: "region", "aria-label": `Terminal of ${place.process}` });
  const type = h("button", { type: "button", class: "main", "data-type": "", "aria-pressed": "false", hidden: true, onclick: () => setTyping(!typing) }, "Type");
  const behind = h("button", { type: "button", "data-end": "", onclick: () => toEnd() }, "To the end");
  const search = h("input", { type: "search", placeholder: "Search (/)", "aria-label": "Search the terminal", "data-search": "" });
  const reader = h("input", { type: "checkbox", id: "reader", checked: localStorage.getItem("screenReader") === "yes" });
  const pad = h("div", { class: "keypad", hidden: true }, KEYS.map(([text, bytes]) =>
    h("button", { type: "button", onclick: () => { remote.type(new TextEncoder().encode(bytes)); screen.term.focus(); } }, text)));

  const on = {
    type: (bytes) => remote.type(bytes),
    resize: (rows, cols) => tty && remote.ask({ type: "resize", rows, cols }),
    leave: () => { setTyping(false); type.focus(); },
  };
  const tools = h("div", { class: "tools" },
    type, behind, search,
    session.role !== "look" && h("button", { type: "button", onclick: () => signals() }, "Signal…"),
    h("a", { class: "button", href: to([...base, "log"]) }, "Log"),
    session.role === "own" && h("button", { type: "button", onclick: () => share() }, "Share…"),
    h("span", { class: "actions" },
      h("button", { type: "button", class: "plain", "aria-label": "A− smaller text", onclick: () => screen.scaleText(-1) }, "A−"),
      h("button", { type: "button", class: "plain", "aria-label": "A+ larger text", onclick: () => screen.scaleText(1) }, "A+"),
      h("span", { class: "check" }, reader, h("label", { for: "reader" }, "Screen reader"))));
  main.className = "whole";
  main.replaceChildren(
    h("div", { class: "head" }, h("div", { class: "title" },
      h("a", { class: "up", href: to(["e", place.environment]), "data-up": "", "aria-label": `All programs of ${place.environment}` }, "‹"), name, state, line, link)),
    tools, box, pad);

  const screen = new Screen(box, on, signal);
  const remote = new Link(address(process(place, "terminal")), {
    output(bytes) {
      screen.write(bytes, !tty, () => remote.drawn(bytes.length));
    },
    told(message) {
      if (message.type === "process") return described(message);
      if (message.type === "skipped") return screen.note(`${size(message.bytes)} are not shown`);
      if (message.type === "behind") return lags(message.bytes);
      if (message.type === "refused") return say(message.reason, "error");
      if (message.type === "away") return linked(`away: ${message.reason}`);
      if (message.type === "gone") return linked(message.reason);
      if (message.type === "over") return lags(0);
    },
    linked: (is) => linked(is ? "" : "the console does not answer; coming back by itself"),
    ended(why) {
      setTyping(false);
      type.hidden = true;
      if (why === "refused") refused();
      refreshState();
    },
  });
  signal.addEventListener("abort", () => remote.close());

  function described(message) {
    tty = message.tty;
    line.textContent = command(message.argv);
    type.hidden = !message.mayType;
    linked("");
    if (!typing) screen.follow(message.rows, message.cols);
    else screen.setTyping(true, on);
  }

  function linked(text) {
    link.textContent = text;
    box.classList.toggle("away", text !== "");
  }

  function lags(bytes) {
    behind.textContent = bytes > 0 ? `To the end (${size(bytes)} behind)` : "To the end";
    behind.classList.toggle("main", bytes > 0);
  }

  function setTyping(wanted) {
    if (wanted === typing && !wanted) return;
    typing = wanted;
    type.textContent = typing ? "Stop typing (Ctrl-\\)" : "Type";
    type.setAttribute("aria-pressed", String(typing));
    box.classList.toggle("typing", typing);
    pad.hidden = !typing;
    screen.setTyping(typing, on);
    if (typing) say("What you type goes to the program; Ctrl-\\ leaves it");
  }

  function toEnd() {
    remote.ask({ type: "jump" });
    screen.term.scrollToBottom();
  }

  async function refreshState() {
    const all = await get(["environments", place.environment, "processes"], { signal }).catch(() => null);
    const found = all?.processes.find((one) => one.sessionId === place.session && one.processId === place.process);
    if (!found) {
      if (all) state.replaceChildren(pill("gone", "bad"));
      return;
    }
    state.replaceChildren(pill(status(found), mood(found)));
    if (!typing && info && (found.rows !== info.rows || found.cols !== info.cols)) screen.follow(found.rows, found.cols);
    if (info && isRunning(info) && !isRunning(found)) say(`${place.process} has ended: ${status(found)}`);
    info = found;
  }

  function refused() {
    linked("your link is good no longer");
    // The page asks who is signed in, and shows what is left.
    get(["session"]).catch(() => {});
  }

  function signals() {
    const which = select(SIGNALS);
    const form = h("form", { class: "stack", onsubmit: (event) => {
      event.preventDefault();
      attempt(async () => {
        await post(process(place, "signal"), { signal: which.value });
        dialog.close();
        say("Sent");
        refreshState();
      });
    } }, h("label", { for: "which-signal" }, `To ${place.process}`), which, h("button", { type: "submit", class: "main" }, "Send"));
    which.id = "which-signal";
    const dialog = ask("Send a signal", form);
    which.focus();
  }

  function share() {
    const { environment } = place;
    ask("Share this program", linkForm([
      ["this program", { of: "process", environment, session: place.session, process: place.process }],
      [`all of ${environment}`, { of: "environment", environment }],
    ]));
  }

  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && search.value && !screen.find(search.value, !event.shiftKey)) say("Not found on this screen; the log has all that is kept");
    if (event.key === "Escape") search.blur();
  });
  reader.addEventListener("change", () => screen.setScreenReader(reader.checked));
  repeat(refreshState, 2000, signal);
}
