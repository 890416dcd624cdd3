// Starts a shell, or a line of one.

import { post } from "../api.js";
import { ask, attempt, field, h } from "../dom.js";
import { go } from "../router.js";

async function start(environment, wanted) {
  const begun = await attempt(() => post(["environments", environment, "processes"], wanted));
  if (begun) go(["e", environment, "p", begun.sessionId, begun.processId]);
}

function dialog(environment) {
  const command = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
  const cwd = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const name = h("input", { type: "text", autocomplete: "off", pattern: "[A-Za-z0-9_.\\-]{1,64}" });
  const tty = h("input", { type: "checkbox", id: "start-tty", checked: true });
  const form = h("form", { class: "stack", onsubmit: (event) => {
    event.preventDefault();
    start(environment, { command: command.value, cwd: cwd.value, name: name.value, tty: tty.checked });
  } },
    field("Command", command, "A line for your shell there"),
    field("Directory", cwd, "Absolute; the home directory if empty"),
    field("Name", name, "Letters, digits, - _ . ; one is made up if empty"),
    h("span", { class: "check" }, tty, h("label", { for: "start-tty" }, "On a terminal")),
    h("button", { type: "submit", class: "main" }, "Run"));
  ask(`Run on ${environment}`, form);
  command.focus();
}

/** The buttons that start something. */
export function startForm(environment) {
  return h("span", { class: "actions" },
    h("button", { type: "button", onclick: () => dialog(environment) }, "Run…"),
    h("button", { type: "button", class: "main", "data-new": "", onclick: () => start(environment, { tty: true }) }, "New terminal"));
}
