// Further links: made, listed and revoked.

import { get, post, remove } from "../api.js";
import { ask, attempt, field, h, refresh, repeat, say, select } from "../dom.js";
import { roleName, scopeName, span } from "../format.js";

const LIVES = [["900", "15 minutes"], ["3600", "1 hour"], ["28800", "8 hours"], ["86400", "1 day"], ["604800", "7 days"]];

function shown(link) {
  const url = h("input", { type: "text", readonly: true, value: link.url, "aria-label": "The link", onfocus: (event) => event.target.select() });
  const copy = async () => {
    url.select();
    await attempt(() => navigator.clipboard.writeText(link.url));
    say("Copied");
  };
  ask("A new link", h("p", {}, `It allows to ${roleName(link.role)}: ${scopeName(link.scope)}. It works once, within ${span(link.secondsLeft * 1000)}, and is shown this once.`),
    h("div", { class: "copy" }, url, h("button", { type: "button", class: "main", onclick: copy }, "Copy")));
  url.focus();
}

function row(link, yours, revoke) {
  const cell = (label, ...content) => h("td", { "data-label": label }, ...content);
  return h("tr", {},
    cell("Link", link.name || `link ${link.id}`, link.id === yours && h("span", { class: "id" }, "yours")),
    cell("Allows", roleName(link.role)),
    cell("For", scopeName(link.scope)),
    cell("State", link.used ? "in use" : "not used yet"),
    cell("Ends in", span(link.secondsLeft * 1000)),
    cell("", h("button", { type: "button", "data-key": `revoke-${link.id}`, "aria-label": `Revoke ${link.name || `link ${link.id}`}`, onclick: () => revoke(link) }, "Revoke")));
}

/** The form for a link; `scopes` are what it may be for. */
export function linkForm(scopes, made) {
  const role = select([["look", "Look"], ["type", "Look and type"]]);
  const scope = select(scopes.map(([text], index) => [String(index), text]));
  const life = select(LIVES, "3600");
  const name = h("input", { type: "text", maxlength: "100", autocomplete: "off", placeholder: "for whom" });
  const submit = (event) => {
    event.preventDefault();
    attempt(async () => {
      const link = await post(["links"], { role: role.value, scope: scopes[Number(scope.value)][1], seconds: Number(life.value), name: name.value });
      shown(link);
      made?.();
    });
  };
  return h("form", { class: "tools", onsubmit: submit },
    field("Allows", role), field("For", scope), field("Good for", life), field("Name", name),
    h("button", { type: "submit", class: "main", "data-new": "" }, "Make a link"));
}

export function links(main, { session, signal }) {
  document.title = "Links · Console";
  const title = h("div", { class: "head" }, h("h1", {}, "Links"), h("p", { class: "muted" }, "Whoever opens a link first is signed in with what it allows, until it ends or is revoked."));
  if (session.role !== "own") {
    main.replaceChildren(title, h("p", { class: "muted empty" }, "Your link does not allow further links."));
    return;
  }
  const body = h("tbody");
  const table = h("table", {},
    h("thead", {}, h("tr", {}, ["Link", "Allows", "For", "State", "Ends in", "Revoke"].map((text) => h("th", { scope: "col" }, text)))), body);
  const place = h("div");
  main.replaceChildren(title, place, h("div", { class: "frame" }, table));
  const load = async () => {
    const told = await get(["links"], { signal }).catch(() => null);
    if (told) refresh(body, told.links.map((link) => [link.id, link.used, span(link.secondsLeft * 1000)]), () => told.links.map((link) => row(link, told.yours, revoke)));
  };
  const revoke = (link) => attempt(async () => {
    await remove(["links", String(link.id)]);
    say("Revoked");
    await load();
  });
  attempt(async () => {
    const told = await get(["environments"], { signal });
    const scopes = told.environments.map(({ name }) => [name, { of: "environment", environment: name }]);
    place.replaceChildren(linkForm([["everything", { of: "all" }], ...scopes], load));
  });
  repeat(load, 2000, signal);
}
