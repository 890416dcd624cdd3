// What is shown to somebody who is not signed in.

import { h } from "../dom.js";

export function signIn(main, reason) {
  document.title = "Sign in · Console";
  main.replaceChildren(
    h("section", { class: "card narrow" },
      h("h1", {}, reason ? "This link does not work" : "You are not signed in"),
      reason && h("p", { class: "error", role: "alert" }, `${reason[0].toUpperCase()}${reason.slice(1)}.`),
      h("p", {}, "Open a link that ", h("code", {}, "codex exec-server console"), " has printed, or one that its owner has made for you. Each works once."),
      h("p", { class: "muted" }, "The owner gets a new one by sending SIGHUP to the command."),
    ),
  );
}
