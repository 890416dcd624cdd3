// Which view the address names. Views stand in the fragment: `#/e/NAME/files?path=…`.

/** The words of a view's address, for a link. */
export function to(words, query = {}) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#/${words.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(words, query) {
  location.hash = to(words, query);
}

/** What the address names now. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const words = path.split("/").filter(Boolean);
  try {
    return { words: words.map(decodeURIComponent), query: new URLSearchParams(query) };
  } catch {
    return { words: [], query: new URLSearchParams() };
  }
}
