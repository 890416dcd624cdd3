// Light and dark, for the page and for terminals.

const LIGHT = {
  background: "#ffffff", foreground: "#1c1e21", cursor: "#0b5fb4", cursorAccent: "#ffffff", selectionBackground: "#b9d7f7",
  black: "#1c1e21", red: "#b3261e", green: "#1c6b36", yellow: "#7a5900", blue: "#0b5fb4", magenta: "#8a2f8f", cyan: "#0b6a74", white: "#5b6068",
  brightBlack: "#5b6068", brightRed: "#b3261e", brightGreen: "#1c6b36", brightYellow: "#7a5900", brightBlue: "#0b5fb4", brightMagenta: "#8a2f8f", brightCyan: "#0b6a74", brightWhite: "#1c1e21",
};
const DARK = {
  background: "#0d0f11", foreground: "#e7e9ec", cursor: "#7db7ff", cursorAccent: "#0d0f11", selectionBackground: "#2c4a6b",
  black: "#23272c", red: "#ff8a80", green: "#7bd88f", yellow: "#e8c66b", blue: "#7db7ff", magenta: "#dd9bea", cyan: "#6fd3dd", white: "#d5d9de",
  brightBlack: "#8d96a1", brightRed: "#ffaba3", brightGreen: "#9be8ab", brightYellow: "#f5dc93", brightBlue: "#a5ceff", brightMagenta: "#ecbdf5", brightCyan: "#9be6ee", brightWhite: "#ffffff",
};
const WAYS = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

const stored = () => {
  const way = localStorage.getItem("theme");
  return WAYS.includes(way) ? way : "auto";
};

const isDark = () => (stored() === "auto" ? system.matches : stored() === "dark");

function apply() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  listeners.forEach((listener) => listener(terminalTheme()));
}

export function startTheme() {
  system.addEventListener("change", apply);
  apply();
}

/** The other one; once more, whatever the system has. */
export function nextTheme() {
  const way = stored();
  localStorage.setItem("theme", way === "auto" ? (system.matches ? "light" : "dark") : "auto");
  apply();
}

export const terminalTheme = () => (isDark() ? DARK : LIGHT);

/** Tells a terminal of each change until the signal. */
export function whenThemeChanges(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}
