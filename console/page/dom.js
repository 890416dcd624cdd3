// Makes elements, and says things to people. Text is always text: nothing here takes markup.

/** An element: attributes, `on…` listeners, and children that are elements or text. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A form's field with its label. */
export function field(label, input, hint) {
  const id = input.id || `field-${crypto.randomUUID()}`;
  input.id = id;
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" }, h("label", { for: id }, label), input, hint && h("small", { id: `${id}-hint` }, hint));
}

/** A list to choose from: pairs of a value and what people read. */
export function select(options, value) {
  const element = h("select", {}, options.map(([key, text]) => h("option", { value: key }, text)));
  if (value !== undefined) element.value = value;
  return element;
}

let hide;

/** Says something at the page's edge, also to a screen reader. */
export function say(text, kind = "note") {
  const status = document.getElementById("status");
  status.textContent = text;
  status.dataset.kind = kind;
  status.classList.add("shown");
  clearTimeout(hide);
  hide = setTimeout(() => status.classList.remove("shown"), kind === "error" ? 9000 : 5000);
}

/** Does something, and says what went wrong if it does. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, "error");
    return undefined;
  }
}

/** Opens the dialog; the first button closes it, as Escape does. */
export function ask(title, ...content) {
  const dialog = document.getElementById("dialog");
  const close = h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: () => dialog.close() }, "✕");
  dialog.replaceChildren(h("header", {}, h("h2", { id: "dialog-title" }, title), close), ...content);
  if (!dialog.open) dialog.showModal();
  return dialog;
}

/** Does something again and again while somebody looks, until the signal; at once when somebody looks again. */
export function repeat(action, pause, signal) {
  let timer;
  const turn = async () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    if (!document.hidden) await action();
    if (!signal.aborted) timer = setTimeout(turn, pause);
  };
  document.addEventListener("visibilitychange", () => !document.hidden && turn(), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  return turn();
}

/** Replaces children only if what they show has changed, so that nobody loses focus or selection. */
export function refresh(parent, key, make) {
  const text = JSON.stringify(key);
  if (parent.dataset.shown === text) return;
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...[make()].flat());
  parent.dataset.shown = text;
  if (focused) parent.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}
