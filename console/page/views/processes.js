// The processes of an environment, as `ps` lists them.

import { get } from "../api.js";
import { h, refresh, repeat } from "../dom.js";
import { command, isRunning, mood, status } from "../format.js";
import { to } from "../router.js";
import { startForm } from "./start.js";
import { head, pill } from "./tabs.js";

const placeOf = (environment, info) => ["e", environment, "p", info.sessionId, info.processId];

function row(environment, info) {
  const cell = (label, ...content) => h("td", { "data-label": label }, ...content);
  return h("tr", {},
    cell("Program", h("a", { href: to(placeOf(environment, info)), "data-row": "", "data-key": `${info.sessionId}/${info.processId}`, class: "cover" },
      h("code", {}, command(info.argv))), h("span", { class: "id" }, info.processId)),
    cell("State", pill(status(info), mood(info))),
    cell("PID", info.pid === null ? "" : String(info.pid)),
    cell("Kind", info.tty ? "terminal" : "pipes"),
    cell("Log", h("a", { href: to([...placeOf(environment, info), "log"]), "aria-label": `Log of ${info.processId}`, class: "over", "data-key": `log ${info.sessionId}/${info.processId}` }, "Log")),
  );
}

export function processes(main, view) {
  const { environment, session, signal } = view;
  const filter = h("input", { type: "search", placeholder: "Filter (/)", "aria-label": "Filter programs", "data-search": "" });
  const ended = h("input", { type: "checkbox", id: "ended" });
  const may = session.role !== "look" && session.scope.of !== "process";
  const body = h("tbody");
  const empty = h("p", { class: "muted empty" }, "Asking…");
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const table = h("table", {},
    h("thead", {}, h("tr", {}, ["Program", "State", "PID", "Kind", "Log"].map((text) => h("th", { scope: "col" }, text)))), body);
  main.replaceChildren(
    head(view, "Processes"),
    h("div", { class: "tools" }, filter, h("span", { class: "check" }, ended, h("label", { for: "ended" }, "Also ended ones")),
      may && startForm(environment)),
    problem, h("div", { class: "frame" }, table), empty);
  let all = null;
  const show = () => {
    if (!all) return;
    const wanted = filter.value.toLowerCase();
    const found = all.filter((info) => (ended.checked || isRunning(info))
      && `${info.processId} ${command(info.argv)}`.toLowerCase().includes(wanted));
    // The newest is what one looks for.
    found.reverse();
    table.hidden = found.length === 0;
    empty.hidden = found.length > 0;
    empty.textContent = all.length === 0 ? "Nothing runs here." : "None of them is shown: nothing that runs matches.";
    refresh(body, found.map((info) => [info.sessionId, info.processId, info.pid, status(info)]), () => found.map((info) => row(environment, info)));
  };
  filter.addEventListener("input", show);
  ended.addEventListener("change", show);
  repeat(async () => {
    try {
      all = (await get(["environments", environment, "processes"], { signal })).processes;
      problem.hidden = true;
      show();
    } catch (error) {
      if (error.name === "AbortError") return;
      problem.textContent = error.message;
      problem.hidden = false;
      empty.hidden = true;
    }
  }, 2000, signal);
}
