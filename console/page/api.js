// What the page asks of the console.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let signedOut = () => {};

/** Calls this when nobody is signed in any more. */
export function whenSignedOut(action) {
  signedOut = action;
}

/** The address of something the page asks for, from words that may hold any character. */
export function address(words, query = {}) {
  const url = new URL(`api/${words.map(encodeURIComponent).join("/")}`, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  url.hash = "";
  return url;
}

/** Asks, and gives the answer's JSON. */
export async function call(method, words, { query, body, signal } = {}) {
  const options = { method, signal, headers: {} };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(address(words, query), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "away", "the console does not answer; it is asked again");
  }
  if (answer.status === 204) return null;
  const told = await answer.json().catch((error) => {
    // Half an answer, of a view that was left meanwhile, is none.
    if (answer.ok || error.name === "AbortError") throw error;
    return {};
  });
  if (answer.ok) return told;
  if (told.error === "signed_out") signedOut();
  throw new ApiError(answer.status, told.error, told.message ?? `the console answered ${answer.status}`);
}

export const get = (words, options) => call("GET", words, options);
export const post = (words, body, options) => call("POST", words, { body, ...options });
export const remove = (words, options) => call("DELETE", words, options);

/** The words of a process's address. */
export function process(place, ...more) {
  return ["environments", place.environment, "processes", place.session, place.process, ...more];
}
