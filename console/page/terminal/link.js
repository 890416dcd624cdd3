// The way to a program: a websocket that comes back by itself, with the bookkeeping of what was drawn and what was taken.

/** Input that is on its way at once, in bytes. */
const WINDOW = 32 << 10;
const PIECE = 4 << 10;
/** Why the console closes: the right to look has ended, or the program is gone. */
const REFUSED = 4001;
const GONE = 4004;

export class Link {
  #url;
  #on;
  #socket = null;
  #after = 0n;
  #offset = 0n;
  #pause = 250;
  #timer;
  #closed = false;
  #drawn = 0;
  #queue = [];
  #flying = 0;

  /** `on` has `output(bytes, isError)`, `told(message)`, `linked(isLinked)` and `ended(why)`. */
  constructor(url, on) {
    this.#url = url;
    this.#on = on;
    this.#open();
  }

  #open() {
    const url = new URL(this.#url);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.#after > 0n || this.#offset > 0n) {
      url.searchParams.set("after", this.#after);
      url.searchParams.set("offset", this.#offset);
    }
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#pause = 250;
      this.#drawn = 0;
      this.#on.linked(true);
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#told(JSON.parse(data)) : this.#output(data));
    socket.onclose = ({ code }) => this.#lost(socket, code);
    this.#socket = socket;
  }

  #output(data) {
    const head = new DataView(data);
    this.#after = head.getBigUint64(1);
    this.#offset = head.getBigUint64(9);
    this.#on.output(new Uint8Array(data, 17), head.getUint8(0) === 2);
  }

  #told(message) {
    if (message.type === "taken") {
      this.#flying = Math.max(0, this.#flying - message.bytes);
      this.#flow();
    }
    this.#on.told(message);
  }

  #lost(socket, code) {
    if (this.#closed || socket !== this.#socket) return;
    this.#socket = null;
    if ([1000, REFUSED, GONE].includes(code)) {
      this.#closed = true;
      this.#on.ended(code === REFUSED ? "refused" : code === GONE ? "gone" : "over");
      return;
    }
    // What nobody saw arrive is not typed again.
    this.#queue = [];
    this.#flying = 0;
    this.#on.linked(false);
    this.#timer = setTimeout(() => this.#open(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, 4000);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(message);
  }

  /** So many bytes are drawn; told in larger numbers, at the end of each turn. */
  drawn(bytes) {
    if (this.#drawn === 0) queueMicrotask(() => {
      this.#send(JSON.stringify({ type: "drawn", bytes: this.#drawn }));
      this.#drawn = 0;
    });
    this.#drawn += bytes;
  }

  /** Types bytes. */
  type(bytes) {
    for (let at = 0; at < bytes.length; at += PIECE) this.#queue.push(bytes.slice(at, at + PIECE));
    this.#flow();
  }

  #flow() {
    while (this.#queue.length > 0 && this.#flying < WINDOW) {
      const piece = this.#queue.shift();
      this.#flying += piece.length;
      this.#send(piece);
    }
  }

  ask(message) {
    this.#send(JSON.stringify(message));
  }

  /** The program's address begins anew, as after a restart. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }
}
