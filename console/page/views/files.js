// Files of an environment's machine: browsed, viewed, downloaded and uploaded.

import { ApiError, address, get } from "../api.js";
import { ask, attempt, h, say } from "../dom.js";
import { size, time } from "../format.js";
import { go, to } from "../router.js";
import { head } from "./tabs.js";

/** So much of a file is shown; the rest is to be downloaded. */
const SHOWN = 512 << 10;

/** The first part of a file, and whether that is all. */
async function beginning(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new ApiError(answer.status, "", (await answer.json().catch(() => ({}))).message ?? "it can't be read");
  const reader = answer.body.getReader();
  const pieces = [];
  let count = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { bytes: await new Blob(pieces).bytes?.() ?? new Uint8Array(await new Blob(pieces).arrayBuffer()), whole: true };
    pieces.push(value);
    count += value.length;
    if (count >= SHOWN) {
      reader.cancel();
      return { bytes: new Uint8Array(await new Blob(pieces).slice(0, SHOWN).arrayBuffer()), whole: false };
    }
  }
}

async function open(environment, entry) {
  const url = address(["environments", environment, "file"], { path: entry.path });
  const save = h("a", { class: "button main", href: url, download: entry.name }, "Download");
  const text = h("pre", { class: "viewed", tabindex: "0", "aria-label": `Content of ${entry.name}` }, "Reading…");
  ask(entry.name, h("div", { class: "tools" }, save, h("span", { class: "muted" }, `${size(entry.size)} ${time(entry.modifiedMs)}`)), text);
  try {
    const { bytes, whole } = await beginning(url);
    const shown = new TextDecoder().decode(bytes);
    const binary = bytes.includes(0);
    text.textContent = binary ? "This is no text." : shown || "It is empty.";
    if (!whole && !binary) text.append(`\n… and more: only the first ${size(SHOWN)} are shown`);
  } catch (error) {
    text.textContent = `${error.message}`;
  }
}

function send(environment, directory, file, replace, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", address(["environments", environment, "file"], { path: directory, name: file.name, replace: replace ? "true" : "" }));
    request.upload.onprogress = ({ loaded, total }) => progress(loaded, total);
    request.onerror = () => reject(new ApiError(0, "away", `${file.name}: the upload broke off`));
    request.onload = () => {
      const told = JSON.parse(request.responseText || "{}");
      request.status === 200 ? resolve(told) : reject(new ApiError(request.status, told.error, told.message));
    };
    request.send(file);
  });
}

export function files(main, view) {
  const { environment, query, signal } = view;
  const path = query.get("path") ?? "";
  const body = h("tbody");
  const empty = h("p", { class: "muted empty" }, "Asking…");
  const table = h("table", { hidden: true },
    h("thead", {}, h("tr", {}, ["Name", "Size", "Changed"].map((text) => h("th", { scope: "col" }, text)))), body);
  const where = h("input", { type: "text", "aria-label": "Directory", spellcheck: "false", autocomplete: "off" });
  const filter = h("input", { type: "search", placeholder: "Filter (/)", "aria-label": "Filter names", "data-search": "" });
  const hidden = h("input", { type: "checkbox", id: "hidden" });
  const chosen = h("input", { type: "file", multiple: true, hidden: true, id: "upload", "aria-label": "Files to upload" });
  const progress = h("p", { class: "muted", role: "status" });
  const visit = (path) => go(["e", environment, "files"], { path });
  main.replaceChildren(
    head(view, "Files"),
    h("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); visit(where.value); } },
      where, filter, h("span", { class: "check" }, hidden, h("label", { for: "hidden" }, "Also hidden ones")), chosen,
      h("button", { type: "button", class: "main", "data-new": "", onclick: () => chosen.click() }, "Upload…")),
    progress, h("div", { class: "frame" }, table), empty);
  let listed = null;

  function row(entry) {
    const cell = (label, ...content) => h("td", { "data-label": label }, ...content);
    const isDirectory = entry.kind === "directory";
    const link = isDirectory
      ? h("a", { href: to(["e", environment, "files"], { path: entry.path }), "data-row": "", class: "cover" }, `${entry.name}/`)
      : entry.kind === "file"
        ? h("button", { type: "button", class: "link cover", "data-row": "", onclick: () => open(environment, entry) }, entry.name)
        : h("span", {}, entry.name);
    return h("tr", {},
      cell("Name", link, entry.target && h("span", { class: "id" }, `→ ${entry.target}`)),
      cell("Size", isDirectory ? "" : size(entry.size)),
      cell("Changed", time(entry.modifiedMs)));
  }

  function show() {
    const wanted = filter.value.toLowerCase();
    const found = listed.entries.filter((one) => (hidden.checked || !one.name.startsWith(".")) && one.name.toLowerCase().includes(wanted));
    found.sort((one, other) => (other.kind === "directory") - (one.kind === "directory"));
    const up = listed.up && h("tr", {}, h("td", { "data-label": "Name", colspan: "3" }, h("a", { href: to(["e", environment, "files"], { path: listed.up }), "data-row": "", class: "cover" }, "../")));
    body.replaceChildren(...[up, ...found.map(row)].filter(Boolean));
    table.hidden = body.children.length === 0;
    empty.hidden = found.length > 0;
    empty.textContent = listed.entries.length === 0 ? "This directory is empty." : "None of them is shown.";
  }

  async function load() {
    try {
      listed = await get(["environments", environment, "directory"], { query: { path }, signal });
      where.value = listed.shown;
      show();
    } catch (error) {
      if (error.name === "AbortError") return;
      where.value = path;
      empty.textContent = error.message;
    }
  }

  async function upload(all) {
    for (const file of all) {
      const tell = (loaded, total) => { progress.textContent = `${file.name}: ${size(loaded)} of ${size(total)}`; };
      await attempt(async () => {
        try {
          await send(environment, listed.path, file, false, tell);
        } catch (error) {
          if (error.code !== "conflict") throw error;
          if (!confirm(`${error.message}. Replace it?`)) return;
          await send(environment, listed.path, file, true, tell);
        }
        say(`${file.name} is there`);
      });
      progress.textContent = "";
    }
    await load();
  }

  filter.addEventListener("input", () => listed && show());
  hidden.addEventListener("change", () => listed && show());
  chosen.addEventListener("change", () => upload([...chosen.files]).then(() => { chosen.value = ""; }));
  main.addEventListener("dragover", (event) => event.preventDefault(), { signal });
  main.addEventListener("drop", (event) => {
    event.preventDefault();
    if (listed && event.dataTransfer.files.length > 0) upload([...event.dataTransfer.files]);
  }, { signal });
  load();
}
