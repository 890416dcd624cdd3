// A terminal that answers nothing. What programs ask of a terminal (where the cursor is, which kind it is) is answered by the
// exec-server; the answers of everybody who looks would reach the program as keys, also those to questions of yesterday.

const CSI = [
  { final: "n" }, { prefix: "?", final: "n" },
  { final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" },
  { prefix: ">", final: "q" },
  { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" },
  { final: "t" },
  { prefix: "?", final: "u" },
];
/** Colours: set by programs, and asked for with a question mark. */
const COLOURS = [4, 10, 11, 12];

export function quiet(term) {
  for (const id of CSI) term.parser.registerCsiHandler(id, () => true);
  for (const code of COLOURS) term.parser.registerOscHandler(code, (data) => data.includes("?"));
  term.parser.registerDcsHandler({ intermediates: "$", final: "q" }, () => true);
}
