// Begins: signs in with a link's key, and shows the view that the address names.

import { get, post, remove, whenSignedOut } from "./api.js";
import { attempt, h } from "./dom.js";
import { roleName, scopeName } from "./format.js";
import { help, listen } from "./keys.js";
import { here, to } from "./router.js";
import { nextTheme, startTheme } from "./terminal/theme.js";
import { environments } from "./views/environments.js";
import { files } from "./views/files.js";
import { forwards } from "./views/forwards.js";
import { links } from "./views/links.js";
import { log } from "./views/log.js";
import { logs } from "./views/logs.js";
import { processes } from "./views/processes.js";
import { signIn } from "./views/signin.js";
import { terminal } from "./views/terminal.js";

/** Who is signed in, or nobody. */
let session = null;
/** Ends the view that is shown. */
let shown = new AbortController();

/** The view of an address, with what it needs. */
function viewOf({ words, query }) {
  const [kind, environment, part, ...rest] = words;
  const view = { session, query, environment };
  if (kind === "forwards") return [forwards, view];
  if (kind === "links") return [links, view];
  if (kind !== "e" || !environment) return [environments, view];
  if (part === "files") return [files, view];
  if (part === "logs") return [logs, view];
  if (part === "log") return [log, { ...view, source: ["environments", environment, "logs", rest[0]], name: rest[0] }];
  if (part === "p" && rest.length >= 2) {
    const place = { environment, session: rest[0], process: rest[1] };
    const source = ["environments", environment, "processes", place.session, place.process];
    return rest[2] === "log" ? [log, { ...view, source, place, name: place.process }] : [terminal, { ...view, place }];
  }
  return [processes, view];
}

function top() {
  const header = document.getElementById("top");
  const link = (words, text) => {
    const current = words.length === 0 ? !["forwards", "links"].includes(here().words[0]) : here().words[0] === words[0];
    return h("a", { href: to(words), "aria-current": current ? "page" : undefined }, text);
  };
  const owner = session?.role === "own";
  const leave = async () => {
    await attempt(() => remove(["session"]));
    session = null;
    show();
  };
  header.replaceChildren(
    h("a", { class: "brand", href: to([]) }, h("img", { src: "page/icon.svg", alt: "", width: "24", height: "24" }), "Console"),
    session ? h("nav", { "aria-label": "Main" }, link([], "Environments"), owner && link(["forwards"], "Forwards"), owner && link(["links"], "Links")) : "",
    h("div", { class: "who" },
      session ? h("span", { class: "role", title: `Your link: ${roleName(session.role)}, ${scopeName(session.scope)}` }, roleName(session.role)) : "",
      h("button", { type: "button", class: "plain", "aria-label": "Change between light and dark", title: "Light or dark", onclick: nextTheme }, "◐"),
      h("button", { type: "button", class: "plain", "aria-label": "List the keys", title: "Keys (?)", onclick: help }, "?"),
      session ? h("button", { type: "button", class: "plain", onclick: leave }, "Sign out") : "",
    ),
  );
}

function show() {
  shown.abort();
  shown = new AbortController();
  document.getElementById("dialog").close?.();
  top();
  const main = document.getElementById("main");
  main.className = "";
  main.replaceChildren();
  if (!session) return signIn(main);
  const [view, what] = viewOf(here());
  view(main, { ...what, signal: shown.signal });
  // What was followed to get here is gone: the next Tab begins with the new view.
  if (document.activeElement === document.body) main.focus({ preventScroll: true });
}

/** A link's key stands in the fragment once; nobody is to find it in the history. */
function takeKey() {
  const key = location.hash.match(/^#(cxc_[\w-]+)$/)?.[1];
  if (key) history.replaceState(null, "", location.pathname);
  return key;
}

async function begin() {
  const key = takeKey();
  try {
    session = key ? await post(["session"], { key }) : await get(["session"]);
  } catch (error) {
    session = null;
    if (key) {
      // Somebody who is signed in and opens a used link is still signed in.
      session = await get(["session"]).catch(() => null);
      if (!session) {
        top();
        return signIn(document.getElementById("main"), error.message);
      }
    }
  }
  if (session?.scope.of === "process" && here().words.length === 0) {
    const { environment, session: id, process } = session.scope;
    history.replaceState(null, "", to(["e", environment, "p", id, process]));
  }
  show();
}

startTheme();
listen();
whenSignedOut(() => {
  if (!session) return;
  session = null;
  show();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
addEventListener("hashchange", () => (/^#cxc_/.test(location.hash) ? begin() : show()));
begin();
