"""Files of the server's machine."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from ._connection import Connection


def uri(path: str) -> str:
    """The path as newer servers take it."""
    return "file://" + quote(path) if path.startswith("/") else path


def path_of(text: str) -> str:
    """The path of an answer."""
    return unquote(urlsplit(text).path) if text.startswith("file:") else text


@dataclass(frozen=True)
class Metadata:
    """Kind, size and time of a file; of what a link leads to."""

    is_file: bool
    is_directory: bool
    is_symlink: bool
    size: int
    modified_at_ms: int


@dataclass(frozen=True)
class Entry:
    """A name in a directory."""

    name: str
    is_file: bool
    is_directory: bool


class Files:
    """Reads and changes files. Paths are absolute."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, path: str) -> bytes:
        """All of a file."""
        return b64decode((await self._connection.call("fs/readFile", {"path": uri(path)}))["dataBase64"])

    async def read_text(self, path: str, encoding: str = "utf-8") -> str:
        """The same as text."""
        return (await self.read(path)).decode(encoding)

    async def write(self, path: str, data: bytes | str) -> None:
        """Makes a file or replaces what stands in it."""
        content = data.encode() if isinstance(data, str) else data
        params = {"path": uri(path), "dataBase64": b64encode(content).decode()}
        await self._connection.call("fs/writeFile", params)

    async def stat(self, path: str) -> Metadata:
        """Kind, size and time."""
        found = await self._connection.call("fs/getMetadata", {"path": uri(path)})
        return Metadata(
            found["isFile"], found["isDirectory"], found["isSymlink"], found.get("size", 0), found["modifiedAtMs"]
        )

    async def list(self, path: str) -> list[Entry]:
        """What is in a directory, in no order."""
        found = await self._connection.call("fs/readDirectory", {"path": uri(path)})
        return [Entry(entry["fileName"], entry["isFile"], entry["isDirectory"]) for entry in found["entries"]]

    async def mkdir(self, path: str, *, parents: bool = True) -> None:
        """Makes a directory."""
        await self._connection.call("fs/createDirectory", {"path": uri(path), "recursive": parents})

    async def remove(self, path: str, *, recursive: bool = False, missing_ok: bool = False) -> None:
        """Removes a file, or a tree."""
        params = {"path": uri(path), "recursive": recursive, "force": missing_ok}
        await self._connection.call("fs/remove", params)

    async def copy(self, source: str, destination: str, *, recursive: bool = False) -> None:
        """Copies a file, or a tree, on that machine."""
        params = {"sourcePath": uri(source), "destinationPath": uri(destination), "recursive": recursive}
        await self._connection.call("fs/copy", params)

    async def realpath(self, path: str) -> str:
        """The path without symlinks."""
        return path_of((await self._connection.call("fs/canonicalize", {"path": uri(path)}))["path"])
