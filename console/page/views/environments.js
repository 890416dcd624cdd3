// All environments: how each stands and why, and how much runs there.

import { get, post } from "../api.js";
import { attempt, h, refresh, repeat } from "../dom.js";
import { isRunning } from "../format.js";
import { to } from "../router.js";
import { stateOf } from "./tabs.js";

function card(environment, running) {
  const { name, state, paused, reason } = environment;
  const again = () => attempt(() => post(["environments", name, "connection"], {}));
  return h("li", { class: "card" },
    h("div", { class: "title" },
      h("h2", {}, h("a", { href: to(["e", name]), "data-row": "", "data-key": name, class: "cover" }, name)),
      stateOf(environment)),
    reason ? h("p", { class: "reason" }, reason) : h("p", { class: "muted" }, running ?? (state === "ready" ? " " : "connecting…")),
    state === "disconnected" && !paused && h("button", { type: "button", "data-key": `again-${name}`, onclick: again }, "Try again"),
    paused && h("p", { class: "muted" }, "It rests until ", h("code", {}, `codex exec-server env resume ${name}`), "."),
  );
}

function count(processes) {
  const running = processes.filter(isRunning).length;
  if (running === 0) return "nothing runs";
  return running === 1 ? "1 program runs" : `${running} programs run`;
}

export function environments(main, { signal }) {
  document.title = "Environments · Console";
  const list = h("ul", { class: "cards" });
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  main.replaceChildren(h("div", { class: "head" }, h("h1", {}, "Environments")), problem, list);
  const running = new Map();
  repeat(async () => {
    try {
      const told = await get(["environments"], { signal });
      problem.hidden = true;
      await Promise.all(told.environments.filter((one) => one.state === "ready").map(async ({ name }) => {
        const all = await get(["environments", name, "processes"], { signal }).catch(() => null);
        if (all) running.set(name, count(all.processes));
      }));
      if (signal.aborted) return;
      const key = told.environments.map((one) => [one, running.get(one.name)]);
      refresh(list, key, () => told.environments.map((one) => card(one, one.state === "ready" ? running.get(one.name) : undefined)));
    } catch (error) {
      if (error.name === "AbortError") return;
      problem.textContent = error.message;
      problem.hidden = false;
    }
  }, 2000, signal);
}
