// Ports of environments, on this console's machine.

import { get, post, remove } from "../api.js";
import { attempt, field, h, refresh, repeat, say, select } from "../dom.js";

function row(forward, stop) {
  const cell = (label, ...content) => h("td", { "data-label": label }, ...content);
  return h("tr", {},
    cell("Here", h("code", {}, forward.local)),
    cell("There", h("code", {}, `${forward.host}:${forward.port}`), h("span", { class: "id" }, forward.environment)),
    cell("Connections", String(forward.carried)),
    cell("Trouble", forward.trouble ?? ""),
    cell("", h("button", { type: "button", "data-key": `stop-${forward.id}`, "aria-label": `Stop ${forward.local}`, onclick: () => stop(forward) }, "Stop")));
}

export function forwards(main, { session, signal }) {
  document.title = "Forwards · Console";
  if (session.role !== "own") {
    main.replaceChildren(h("div", { class: "head" }, h("h1", {}, "Forwards")), h("p", { class: "muted empty" }, "Your link does not allow forwards."));
    return;
  }
  const body = h("tbody");
  const table = h("table", { hidden: true },
    h("thead", {}, h("tr", {}, ["Here", "There", "Connections", "Trouble", "Stop"].map((text) => h("th", { scope: "col" }, text)))), body);
  const empty = h("p", { class: "muted empty" }, "Nothing is forwarded.");
  const environment = select([]);
  const port = h("input", { type: "number", min: "1", max: "65535", required: true, inputmode: "numeric", "data-search": "" });
  const host = h("input", { type: "text", placeholder: "127.0.0.1", autocomplete: "off", spellcheck: "false" });
  const local = h("input", { type: "number", min: "0", max: "65535", placeholder: "free", inputmode: "numeric" });
  const load = async () => {
    const told = await get(["forwards"], { signal }).catch(() => null);
    if (!told) return;
    table.hidden = told.forwards.length === 0;
    empty.hidden = !table.hidden;
    refresh(body, told.forwards, () => told.forwards.map((forward) => row(forward, stop)));
  };
  const stop = (forward) => attempt(async () => {
    await remove(["forwards", String(forward.id)]);
    await load();
  });
  const start = (event) => {
    event.preventDefault();
    attempt(async () => {
      const begun = await post(["forwards"], {
        environment: environment.value, port: Number(port.value), host: host.value || undefined, localPort: Number(local.value || 0),
      });
      say(`${begun.local} leads to ${begun.host}:${begun.port} now`);
      await load();
    });
  };
  main.replaceChildren(
    h("div", { class: "head" }, h("h1", {}, "Forwards"), h("p", { class: "muted" }, "A port here, on the machine where this console runs, leads to a port there.")),
    h("form", { class: "tools", onsubmit: start },
      field("Environment", environment), field("Port there", port), field("Host there", host), field("Port here", local),
      h("button", { type: "submit", class: "main" }, "Forward")),
    h("div", { class: "frame" }, table), empty);
  attempt(async () => {
    const told = await get(["environments"], { signal });
    environment.replaceChildren(...told.environments.map((one) => h("option", { value: one.name }, one.name)));
  });
  repeat(load, 2000, signal);
}
