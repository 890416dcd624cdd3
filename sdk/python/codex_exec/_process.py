"""A program on the server's machine, like one of asyncio.subprocess."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ._connection import Connection
from ._errors import ConnectionLost, ExecError

Signal = Literal[
    "interrupt", "terminate", "kill", "hangup", "quit", "user1", "user2", "stop", "continue", "windowChange"
]


@dataclass(frozen=True)
class Exit:
    """How a program ended."""

    #: 0 to 255; 128 + n for a signal, on a terminal 1.
    exit_code: int
    #: The signal that killed it, where the server tells.
    signal: int | None = None
    #: A deadline ended it.
    timed_out: bool = False
    #: From start to end in milliseconds, where the server tells.
    duration_ms: int | None = None


@dataclass(frozen=True)
class Completed:
    """A program that has ended, with all that it printed."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    signal: int | None = None
    timed_out: bool = False


class Output:
    """One stream of a program's output: read it, or iterate over its pieces."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._news = asyncio.Event()

    def _put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._news.set()

    def _end(self) -> None:
        self._ended = True
        self._news.set()

    async def read_some(self) -> bytes:
        """The next piece, as it came; empty at the end."""
        while not self._pieces:
            if self._process._failure is not None:
                raise ConnectionLost(self._process._failure)
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        piece = self._pieces.popleft()
        self._process._took(len(piece))
        return piece

    async def read(self, n: int = -1) -> bytes:
        """Up to n bytes as soon as there are some, or all until the end."""
        if n < 0:
            return b"".join([piece async for piece in self])
        piece = await self.read_some()
        if len(piece) > n:
            self._give_back(piece[n:])
        return piece[:n]

    async def readline(self) -> bytes:
        """A line with its end; what is left at the end of the output."""
        line = b""
        while True:
            piece = await self.read_some()
            at = piece.find(b"\n")
            if at >= 0:
                if at + 1 < len(piece):
                    self._give_back(piece[at + 1 :])
                return line + piece[: at + 1]
            if not piece:
                return line
            line += piece

    def _give_back(self, piece: bytes) -> None:
        self._pieces.appendleft(piece)
        self._process.queued += len(piece)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[bytes]:
        while piece := await self.read_some():
            yield piece


class Input:
    """A program's standard input, or its terminal's keys."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def write(self, data: bytes | str) -> None:
        """Writes; waits as long as the server's queue for the program is full."""
        process = self._process
        process._writes += 1
        params = {
            "processId": process.id,
            "chunk": b64encode(data.encode() if isinstance(data, str) else data).decode(),
            "writeId": f"{process._prefix}{process._writes}",
        }
        result = await process._connection.call("process/write", params, repeatable=True)
        if result["status"] != "accepted":
            raise ExecError(f"process {process.id!r} takes no input: {result['status']}")

    async def close(self) -> None:
        """Ends the input behind what was written. An addition of this server: others refuse it."""
        await self._process._connection.call("process/closeStdin", {"processId": self._process.id})


class Process:
    """A started program. Leaving its block ends it, should it still run."""

    def __init__(self, connection: Connection, id: str, prefix: str = "") -> None:
        self._connection = connection
        #: Chosen by whoever started it; private to the session.
        self.id = id
        self.stdin = Input(self)
        self.stdout = Output(self)
        self.stderr = Output(self)
        self.exit: Exit | None = None
        self.queued = 0
        self.room = asyncio.Event()
        self._prefix, self._writes = prefix, 0
        self._published = 0
        self._held: dict[int, tuple[str, Any]] = {}
        self._closed = False
        self._failure: str | None = None
        self._ended = asyncio.Event()

    # ---- what comes (the connection's side)

    @property
    def published(self) -> int:
        """The last number that was handed on."""
        return self._published

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self._closed or self._failure is not None

    def output(self, seq: int, stream: str, chunk: bytes) -> None:
        """Takes a piece of output."""
        self._take(seq, (stream, chunk))

    def event(self, method: str, params: dict[str, Any]) -> None:
        """Takes an exit or a close."""
        self._take(params["seq"], (method, params))

    def recovered(self, read: dict[str, Any]) -> None:
        """Fills in what was missed, as 15.4 has it."""
        if read.get("lostBytes"):
            self.lost(f"{read['lostBytes']} bytes of output were lost while the connection was away")
            return
        for chunk in read["chunks"]:
            self.output(chunk["seq"], chunk["stream"], b64decode(chunk["chunk"]))
        target = read["nextSeq"] - 1
        missing = [seq for seq in range(self._published + 1, target + 1) if seq not in self._held]
        if read["closed"] and missing:
            self._take(missing.pop(), ("process/closed", {}))
        if read["exited"] and self.exit is None and missing:
            exit_ = {**(read.get("exit") or {}), "exitCode": read["exitCode"]}
            self._take(missing.pop(), ("process/exited", exit_))
        if missing:
            self.lost("output was lost while the connection was away")

    def lost(self, reason: str) -> None:
        """Nothing more is known of it."""
        if not self.over:
            self._failure = reason
            self._finish()

    def _take(self, seq: int, what: tuple[str, Any]) -> None:
        if seq <= self._published:
            return
        self._held[seq] = what
        while (next_ := self._held.pop(self._published + 1, None)) is not None:
            self._published += 1
            self._publish(*next_)

    def _publish(self, kind: str, what: Any) -> None:
        if kind == "process/exited":
            self.exit = Exit(what["exitCode"], what.get("signal"), what.get("timedOut", False), what.get("durationMs"))
            self._ended.set()
        elif kind == "process/closed":
            self._closed = True
            self._finish()
        else:
            self.queued += len(what)
            (self.stderr if kind == "stderr" else self.stdout)._put(what)

    def _finish(self) -> None:
        self.stdout._end()
        self.stderr._end()
        self._ended.set()
        self._connection.followers.pop(self.id, None)

    def _took(self, count: int) -> None:
        self.queued -= count
        self.room.set()

    def to_json(self) -> dict[str, Any]:
        """All that another process needs to go on, with what nobody has read yet."""
        unread = {
            name: b64encode(b"".join(output._pieces)).decode()
            for name, output in (("stdout", self.stdout), ("stderr", self.stderr))
        }
        return {"published": self._published, "unread": unread, "exit": self.exit and asdict(self.exit)}

    def from_json(self, known: dict[str, Any]) -> None:
        """Goes on where another process has stopped."""
        self._published = known["published"]
        for name, output in (("stdout", self.stdout), ("stderr", self.stderr)):
            if unread := b64decode(known["unread"][name]):
                self.queued += len(unread)
                output._put(unread)
        if known["exit"]:
            self.exit = Exit(**known["exit"])
            self._ended.set()

    # ---- what is asked of it

    async def wait(self) -> Exit:
        """Waits for its end. Its output may not have ended yet, and has to be read for it to go on."""
        await self._ended.wait()
        if self.exit is None:
            raise ConnectionLost(self._failure or "the connection was lost")
        return self.exit

    async def communicate(self, input: bytes | str | None = None) -> Completed:
        """Writes all of the input and ends it, and gives all of the output."""

        async def feed() -> None:
            if input is not None:
                if input:
                    await self.stdin.write(input)
                await self.stdin.close()

        stdout, stderr, fed = await asyncio.gather(
            self.stdout.read(), self.stderr.read(), feed(), return_exceptions=True
        )
        for outcome in (stdout, stderr):
            if isinstance(outcome, BaseException):
                raise outcome
        exit_ = await self.wait()
        # A program that ends without reading its input is no error.
        if isinstance(fed, ConnectionLost):
            raise fed
        assert isinstance(stdout, bytes) and isinstance(stderr, bytes)
        return Completed(exit_.exit_code, stdout, stderr, exit_.signal, exit_.timed_out)

    async def send_signal(self, signal: Signal) -> None:
        """Signals its process group. Released servers know `interrupt` only."""
        await self._connection.call("process/signal", {"processId": self.id, "signal": signal})

    async def terminate(self, grace: float = 5.0) -> bool:
        """Ends it and its tree: SIGTERM, and SIGKILL when `grace` seconds are over. Whether it ran."""
        params = {"processId": self.id, "graceMs": int(grace * 1000)}
        return bool((await self._connection.call("process/terminate", params))["running"])

    async def kill(self) -> bool:
        """Ends it and its tree at once. Whether it ran."""
        return bool((await self._connection.call("process/terminate", {"processId": self.id}))["running"])

    async def resize(self, rows: int, cols: int) -> None:
        """Changes the size of its terminal."""
        await self._connection.call("process/resize", {"processId": self.id, "rows": rows, "cols": cols})

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.exit is None and self._failure is None:
            await self.kill()
