// An environment's head: its name, how it stands, and the ways into it.

import { get, post } from "../api.js";
import { attempt, h, refresh, repeat } from "../dom.js";
import { to } from "../router.js";

/** A word with its colour. */
export function pill(text, mood) {
  return h("span", { class: `pill ${mood}` }, text);
}

export function stateOf(environment) {
  if (environment.paused) return pill("paused", "calm");
  const mood = { ready: "good", pending: "busy", disconnected: "bad" }[environment.state] ?? "calm";
  return pill(environment.state, mood);
}

/** The head of a view of an environment; `current` is the tab that it is. */
export function head(view, current) {
  const { environment: name, session, signal } = view;
  document.title = `${name} · Console`;
  const state = h("span", { class: "state" });
  const reason = h("p", { class: "reason", hidden: true });
  const whole = session.scope.of !== "process";
  const tab = (words, text) => h("a", { href: to(["e", name, ...words]), "aria-current": text === current ? "page" : undefined }, text);
  const again = h("button", { type: "button", hidden: true, onclick: () => attempt(() => post(["environments", name, "connection"], {})) }, "Try again");
  repeat(async () => {
    const told = await get(["environments"], { signal }).catch(() => null);
    const found = told?.environments.find((one) => one.name === name);
    if (!found) return;
    refresh(state, [found.state, found.paused], () => stateOf(found));
    reason.hidden = !found.reason;
    reason.textContent = found.reason ?? "";
    again.hidden = found.state !== "disconnected" || found.paused;
  }, 2000, signal);
  return h("div", { class: "head" },
    h("div", { class: "title" },
      h("a", { class: "up", href: to([]), "data-up": "", "aria-label": "All environments" }, "‹"),
      h("h1", {}, name), state, again),
    reason,
    h("nav", { class: "tabs", "aria-label": `Of ${name}` },
      tab([], "Processes"), whole && session.role !== "look" && tab(["files"], "Files"), whole && tab(["logs"], "Kept logs")),
  );
}
