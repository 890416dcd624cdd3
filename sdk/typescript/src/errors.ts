// What can go wrong.

/** Something did not work. */
export class ExecError extends Error {
  override name = "ExecError";
}

/** The server refused a request, or could not do it. */
export class RequestFailed extends ExecError {
  override name = "RequestFailed";
  constructor(
    readonly method: string,
    /** As section 17 of the protocol has it; -32004 for what is not there. */
    readonly code: number,
    readonly reason: string,
    readonly data?: unknown,
  ) {
    super(`${method}: ${reason} (${code})`);
  }
}

/** The connection is gone, so what became of a request is not known. */
export class ConnectionLost extends ExecError {
  override name = "ConnectionLost";
}
