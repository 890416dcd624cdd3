"""A machine that is lent: its programs, its files, its HTTP."""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ._connection import Connection
from ._errors import ConnectionLost, ExecError
from ._files import Files, path_of, uri
from ._links import LineLink, Link, WebSocketLink
from ._process import Completed, Process


@dataclass(frozen=True)
class Response:
    """An HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Environment:
    """One session on one machine."""

    def __init__(self, connection: Connection, place: str) -> None:
        self._connection, self._place = connection, place
        #: Files of the machine.
        self.files = Files(connection)

    @property
    def info(self) -> dict[str, Any] | None:
        """What the machine is, as `environment/info` has it; None from servers before 0.169."""
        return self._connection.info

    @property
    def cwd(self) -> str:
        """Where the server works."""
        info = self.info or {}
        return path_of(info["cwd"]) if "cwd" in info else "/"

    async def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        inherit_env: bool = True,
        stdin: bool = False,
        tty: bool = False,
        rows: int | None = None,
        cols: int | None = None,
        timeout: float | None = None,
        sandbox: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Process:
        """Starts a program. `stdin` gives it a pipe, `tty` a terminal; `timeout` ends it after so many seconds."""
        process = Process(self._connection, id or uuid.uuid4().hex)
        params: dict[str, Any] = {
            "processId": process.id,
            "argv": list(argv),
            "cwd": uri(cwd or self.cwd),
            "env": dict(env or {}),
            "tty": tty,
            "pipeStdin": stdin and not tty,
        }
        if inherit_env:
            params["envPolicy"] = {
                "inherit": "all", "ignoreDefaultExcludes": True, "exclude": [], "set": {}, "includeOnly": [],
            }  # fmt: skip
        if sandbox is not None:
            params["sandbox"] = dict(sandbox)
        for name, value in (("rows", rows), ("cols", cols)):
            if value is not None:
                params[name] = value
        if timeout is not None:
            params["timeoutMs"] = max(1, int(timeout * 1000))
        # Before the start: its first output may come before the answer.
        self._connection.followers[process.id] = process
        try:
            await self._connection.call("process/start", params)
        except BaseException:
            self._connection.followers.pop(process.id, None)
            raise
        return process

    async def run(self, argv: Sequence[str], *, input: bytes | str | None = None, **options: Any) -> Completed:
        """Runs a program to its end, and gives all that it printed. Options as for `start`."""
        async with await self.start(argv, stdin=input is not None, **options) as process:
            return await process.communicate(input)

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
        follow: bool = True,
    ) -> Response:
        """Makes an HTTP request from the machine."""
        result = await self._connection.call("http/request", self._request(url, method, headers, body, timeout, follow))
        pairs = [(header["name"], header["value"]) for header in result["headers"]]
        return Response(result["status"], pairs, b64decode(result["bodyBase64"]))

    @asynccontextmanager
    async def stream(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None,
        timeout: float | None = None, follow: bool = True,
    ) -> AsyncIterator[tuple[Response, AsyncIterator[bytes]]]:  # fmt: skip
        """The same, with the body as it comes."""
        request = {**self._request(url, method, headers, body, timeout, follow), "streamResponse": True}
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._connection.bodies[request["requestId"]] = queue

        async def pieces() -> AsyncIterator[bytes]:
            while (delta := await queue.get()) is not None:
                if piece := b64decode(delta["deltaBase64"]):
                    yield piece
                if delta["done"]:
                    if delta.get("error"):
                        raise ExecError(f"the response body broke off: {delta['error']}")
                    return
            raise ConnectionLost("the response body broke off: the connection was lost")

        try:
            result = await self._connection.call("http/request", request)
            pairs = [(header["name"], header["value"]) for header in result["headers"]]
            yield Response(result["status"], pairs, b""), pieces()
        finally:
            self._connection.bodies.pop(request["requestId"], None)

    @staticmethod
    def _request(
        url: str, method: str, headers: Mapping[str, str] | None, body: bytes | None, timeout: float | None, follow: bool
    ) -> dict[str, Any]:
        return {
            "method": method,
            "url": url,
            "headers": [{"name": name, "value": value} for name, value in (headers or {}).items()],
            "bodyBase64": None if body is None else b64encode(body).decode(),
            "timeoutMs": None if timeout is None else int(timeout * 1000),
            "redirectPolicy": "follow" if follow else "stop",
            "requestId": uuid.uuid4().hex,
        }

    def processes(self) -> dict[str, Process]:
        """The programs that are followed and not over, by their ids."""
        return {id: it for id, it in self._connection.followers.items() if isinstance(it, Process)}

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Calls any method of the protocol."""
        return await self._connection.call(method, dict(params or {}))

    async def detach(self) -> str:
        """Leaves the session as it is, and gives the handle, as JSON, by which another process picks it up in time."""
        processes = {id: process.to_json() for id, process in self.processes().items()}
        handle = {"place": self._place, "session": self._connection.session_id, "processes": processes}
        await self._connection.close(end_session=False)
        return json.dumps(handle)

    async def close(self) -> None:
        """Ends the session and what runs in it."""
        await self._connection.close(end_session=True)


def _dialer(place: str | Sequence[str], token: str | None) -> tuple[Any, bool]:
    """What connects, and whether a session outlives its connection."""
    if not isinstance(place, str):
        return (lambda: LineLink.command(place)), False
    if place.startswith(("ws://", "wss://")):
        return (lambda: WebSocketLink.open(place, token)), True
    if place.startswith("unix://"):
        if token:
            raise ValueError("over a Unix socket a token takes a websocket, which this library does not make")
        return (lambda: LineLink.unix(place.removeprefix("unix://"))), True
    raise ValueError(f"{place!r} is neither ws://, wss:// nor unix://; a list starts a server over its pipes")


class _Connecting:
    """What `connect` gives: to be awaited, or entered."""

    def __init__(self, place: str | Sequence[str], token: str | None, handle: str | None) -> None:
        self._place, self._token, self._handle = place, token, handle
        self._environment: Environment | None = None

    async def _open(self) -> Environment:
        handle = json.loads(self._handle) if self._handle else None
        dial, resumable = _dialer(self._place, self._token)
        connection = Connection(dial, resumable)
        if handle is not None:
            for id, known in handle["processes"].items():
                # Writes of its own: their numbers are none that the process before has used.
                process = Process(connection, id, f"{uuid.uuid4().hex}-")
                process.from_json(known)
                connection.followers[id] = process
        await connection.open(handle["session"] if handle else None)
        if handle is not None:
            for id, follower in list(connection.followers.items()):
                await connection._recover(id, follower)
        return Environment(connection, self._place if isinstance(self._place, str) else "")

    def __await__(self) -> Any:
        return self._open().__await__()

    async def __aenter__(self) -> Environment:
        self._environment = await self._open()
        return self._environment

    async def __aexit__(self, *_: object) -> None:
        if self._environment is not None:
            await self._environment.close()


def connect(place: str | Sequence[str], *, token: str | None = None, handle: str | None = None) -> _Connecting:
    """Connects to an exec-server: `ws://…`, `wss://…`, `unix:///…`, or a command that speaks the protocol over its pipes,
    such as `["codex", "exec-server", "connect", "-E", "NAME", "--stdio"]`, which leads to any environment.

    With a `handle` of `Environment.detach`, its session is taken up, and `environment.processes()` has its programs.
    """
    return _Connecting(place, token, handle)
