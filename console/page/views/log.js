// What a program has printed: read page by page, searched to its beginning, followed at its end.

import { address, get } from "../api.js";
import { attempt, h, repeat, say } from "../dom.js";
import { plain, size } from "../format.js";
import { to } from "../router.js";
import { pill } from "./tabs.js";

/** Blocks that stay on the page; a page of the log has 256 KiB at most. */
const BLOCKS = 8;

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

export function log(main, view) {
  const { environment, source, name, place, signal } = view;
  document.title = `Log of ${name} · Console`;
  const decoders = {};
  let first = 0;
  let next = 0;
  let over = false;
  let busy = false;

  const text = h("div", { class: "log", tabindex: "0", role: "region", "aria-label": `Output of ${name}` });
  const where = h("span", { class: "muted" });
  const earlier = h("button", { type: "button", onclick: () => attempt(loadEarlier) }, "Earlier");
  const later = h("button", { type: "button", hidden: true, onclick: () => attempt(loadLater) }, "Later");
  const follow = h("input", { type: "checkbox", id: "follow", checked: true });
  const search = h("input", { type: "search", placeholder: "Search (/)", "aria-label": "Search the log", "data-search": "" });
  const found = h("ol", { class: "found" });
  const finding = h("p", { class: "muted", role: "status" });
  const back = place ? to(["e", environment, "p", place.session, place.process]) : to(["e", environment, "logs"]);
  main.className = "whole";
  main.replaceChildren(
    h("div", { class: "head" }, h("div", { class: "title" }, h("a", { class: "up", href: back, "data-up": "", "aria-label": "Back" }, "‹"), h("h1", {}, "Log"), h("code", { class: "argv" }, name), where)),
    h("form", { class: "tools", role: "search", onsubmit: (event) => { event.preventDefault(); find(); } },
      search, h("button", { type: "submit" }, "Search"),
      h("button", { type: "button", "data-end": "", onclick: () => attempt(toEnd) }, "To the end"),
      h("span", { class: "check" }, follow, h("label", { for: "follow" }, "Follow")),
      h("a", { class: "button", href: address([...source, "output", "download"]), download: `${name}.log` }, "Download")),
    finding, found, earlier, text, later);

  function block(page, isNext) {
    if (!isNext) for (const stream of Object.keys(decoders)) delete decoders[stream];
    const spans = page.pieces.map(({ stream, bytes }) => {
      decoders[stream] ??= new TextDecoder();
      const shown = plain(decoders[stream].decode(bytesOf(bytes), { stream: true }));
      return h("span", stream === "stderr" ? { class: "stderr" } : {}, shown);
    });
    const element = h("pre", {}, spans);
    element.dataset.begin = page.begin;
    element.dataset.next = page.next;
    return element;
  }

  function told(page) {
    where.textContent = `${size(page.total)}${page.over ? ", complete" : ""}`;
    over = page.over && next >= page.total;
    if (page.failure) where.textContent += `; ${page.failure}`;
    earlier.hidden = first === 0;
    later.hidden = next >= page.total;
  }

  const ask = (query) => get([...source, "output"], { query, signal });

  async function show(query) {
    const page = await ask(query);
    text.replaceChildren(block(page, false));
    [first, next] = [page.begin, page.next];
    told(page);
    return page;
  }

  async function toEnd() {
    await show({});
    text.scrollTop = text.scrollHeight;
  }

  async function loadEarlier() {
    if (first === 0 || busy) return;
    busy = true;
    try {
      const from = Math.max(0, first - (256 << 10));
      const page = await ask({ from, max: first - from });
      const before = text.scrollHeight;
      if (page.begin >= first || page.pieces.length === 0) {
        say("What was printed before is not kept any more");
        earlier.hidden = true;
        first = 0;
        return;
      }
      text.prepend(block(page, false));
      text.scrollTop += text.scrollHeight - before;
      first = page.begin;
      while (text.children.length > BLOCKS) text.lastElementChild.remove();
      next = Number(text.lastElementChild.dataset.next);
      follow.checked = false;
      told(page);
    } finally {
      busy = false;
    }
  }

  async function loadLater() {
    if (busy) return;
    busy = true;
    try {
      const page = await ask({ from: next });
      if (page.lost > 0) text.append(h("pre", { class: "gap" }, `${size(page.lost)} are gone`));
      if (page.pieces.length > 0) {
        const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
        text.append(block(page, true));
        next = page.next;
        while (text.children.length > BLOCKS) text.firstElementChild.remove();
        first = Number(text.firstElementChild.dataset.begin ?? first);
        if (atEnd && follow.checked) text.scrollTop = text.scrollHeight;
      }
      told(page);
    } finally {
      busy = false;
    }
  }

  let search_ended = new AbortController();

  async function find() {
    const wanted = search.value;
    search_ended.abort();
    search_ended = new AbortController();
    const stop = AbortSignal.any([signal, search_ended.signal]);
    found.replaceChildren();
    if (!wanted) return void (finding.textContent = "");
    let from = 0;
    let count = 0;
    await attempt(async () => {
      while (from !== undefined && count < 1000) {
        finding.textContent = `Searching… ${count} found, ${size(from)} searched`;
        const part = await get([...source, "output", "search"], { query: { text: wanted, from }, signal: stop });
        count += part.lines.length;
        found.append(...part.lines.map((line) => h("li", {}, h("button", { type: "button", class: "plain", "data-row": "", onclick: () => attempt(() => jump(line, wanted)) }, line.text || " "))));
        from = part.next ?? undefined;
      }
      finding.textContent = count === 0 ? "Nothing found" : count === 1 ? "1 line" : `${count} lines${from === undefined ? "" : " or more"}`;
    });
  }

  async function jump(line, wanted) {
    follow.checked = false;
    await show({ from: line.offset });
    text.scrollTop = 0;
    text.focus();
    const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const at = node.data.toLowerCase().indexOf(wanted.toLowerCase());
      if (at < 0) continue;
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + wanted.length);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return;
    }
  }

  attempt(toEnd).then(() => repeat(async () => {
    if (follow.checked && !over && text.children.length > 0) await loadLater().catch(() => {});
  }, 1000, signal));
}
