// Files of the server's machine.

import { fileURLToPath, pathToFileURL } from "node:url";

import type { Connection } from "./connection.js";

/** The path as newer servers take it. */
export function uri(path: string): string {
  return path.startsWith("/") ? pathToFileURL(path).href : path;
}

/** The path of an answer. */
export function pathOf(text: string): string {
  return text.startsWith("file:") ? fileURLToPath(text) : text;
}

/** Kind, size and time of a file; of what a link leads to. */
export interface Metadata {
  isFile: boolean;
  isDirectory: boolean;
  isSymlink: boolean;
  size: number;
  modifiedAtMs: number;
}

/** A name in a directory. */
export interface Entry {
  fileName: string;
  isFile: boolean;
  isDirectory: boolean;
}

/** Reads and changes files. Paths are absolute. */
export class Files {
  constructor(private readonly connection: Connection) {}

  async read(path: string): Promise<Buffer> {
    const { dataBase64 } = await this.connection.call("fs/readFile", { path: uri(path) });
    return Buffer.from(dataBase64, "base64");
  }

  async write(path: string, data: Buffer | string): Promise<void> {
    await this.connection.call("fs/writeFile", { path: uri(path), dataBase64: Buffer.from(data).toString("base64") });
  }

  async stat(path: string): Promise<Metadata> {
    return (await this.connection.call("fs/getMetadata", { path: uri(path) })) as Metadata;
  }

  async list(path: string): Promise<Entry[]> {
    return (await this.connection.call("fs/readDirectory", { path: uri(path) })).entries;
  }

  async mkdir(path: string, options: { recursive?: boolean } = {}): Promise<void> {
    await this.connection.call("fs/createDirectory", { path: uri(path), recursive: options.recursive ?? true });
  }

  async remove(path: string, options: { recursive?: boolean; force?: boolean } = {}): Promise<void> {
    const { recursive = false, force = false } = options;
    await this.connection.call("fs/remove", { path: uri(path), recursive, force });
  }

  async copy(source: string, destination: string, options: { recursive?: boolean } = {}): Promise<void> {
    const params = { sourcePath: uri(source), destinationPath: uri(destination), recursive: options.recursive ?? false };
    await this.connection.call("fs/copy", params);
  }

  async realpath(path: string): Promise<string> {
    return pathOf((await this.connection.call("fs/canonicalize", { path: uri(path) })).path);
  }
}
