// Numbers, times and states as people read them.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function size(bytes) {
  if (bytes === undefined || bytes === null) return "";
  let unit = 0;
  while (bytes >= 1000 && unit < UNITS.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${UNITS[unit]}`;
}

export function span(ms) {
  const s = ms / 1000;
  if (s < 1) return `${Math.round(ms)} ms`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

export function time(ms) {
  return ms ? new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "";
}

/** As `ps` says it: running 3 min, exited 1 after 2 s. */
export function status(info) {
  const exit = info.exit;
  if (exit?.timedOut) return `timed out after ${span(exit.durationMs)}`;
  if (exit?.signal) return `killed by signal ${exit.signal} after ${span(exit.durationMs)}`;
  if (exit && info.exitCode !== null) return `exited ${info.exitCode} after ${span(exit.durationMs)}`;
  return info.runningMs === undefined ? info.state : `${info.state} ${span(info.runningMs)}`;
}

/** What colours a process's state: it runs, ended well, or did not. */
export function mood(info) {
  if (info.state === "starting" || info.state === "running") return "good";
  return info.exitCode === 0 ? "calm" : "bad";
}

export const isRunning = (info) => info.state === "starting" || info.state === "running";

export const command = (argv) => argv.join(" ");

export function roleName(role) {
  return { look: "look", type: "look and type", own: "owner" }[role] ?? role;
}

export function scopeName(scope) {
  if (scope.of === "process") return `${scope.process} on ${scope.environment}`;
  return scope.of === "environment" ? scope.environment : "everything";
}

/** Text of a terminal without what colours it and moves the cursor. */
export function plain(text) {
  return text
    .replace(/\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[P_^X][^\x1b]*\x1b\\|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]/g, "")
    .replace(/\r+\n/g, "\n")
    .replace(/\r/g, "\n")
    .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
}
