// Logs that are kept on the environment's disk, also of programs whose server has ended.

import { get } from "../api.js";
import { attempt, h } from "../dom.js";
import { command, size, span, time } from "../format.js";
import { to } from "../router.js";
import { head, pill } from "./tabs.js";

function end(log) {
  if (log.endedMs === null) return pill("running", "good");
  if (log.failure) return pill("end not known", "bad");
  const code = log.exit?.signal ? `killed by signal ${log.exit.signal}` : `exited ${log.exitCode}`;
  return pill(code, log.exitCode === 0 ? "calm" : "bad");
}

function row(environment, log) {
  const cell = (label, ...content) => h("td", { "data-label": label }, ...content);
  return h("tr", {},
    cell("Program", h("a", { href: to(["e", environment, "log", log.logId]), "data-row": "", class: "cover" }, h("code", {}, command(log.argv))),
      h("span", { class: "id" }, log.processId)),
    cell("End", end(log)),
    cell("Started", time(log.startedMs)),
    cell("Took", log.endedMs === null ? "" : span(log.endedMs - log.startedMs)),
    cell("Output", size(log.outputBytes)));
}

export function logs(main, view) {
  const { environment, signal } = view;
  const body = h("tbody");
  const empty = h("p", { class: "muted empty" }, "Asking…");
  const more = h("button", { type: "button", hidden: true }, "Earlier ones");
  const table = h("table", { hidden: true },
    h("thead", {}, h("tr", {}, ["Program", "End", "Started", "Took", "Output"].map((text) => h("th", { scope: "col" }, text)))), body);
  main.replaceChildren(head(view, "Kept logs"), h("div", { class: "frame" }, table), empty, h("div", { class: "tools" }, more));
  let before;
  const load = () => attempt(async () => {
    const page = await get(["environments", environment, "logs"], { query: { before }, signal });
    body.append(...page.logs.map((log) => row(environment, log)));
    before = page.next ?? undefined;
    more.hidden = before === undefined;
    table.hidden = body.children.length === 0;
    empty.hidden = !table.hidden;
    empty.textContent = "No output is kept on disk there; `run -d` keeps it, where the server has a place for logs.";
  });
  more.addEventListener("click", load);
  load();
}
