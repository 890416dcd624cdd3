"""Ways to a server that carry text messages: a websocket, a Unix socket, a child's pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

#: A longer message of a server ends the connection: a safeguard, far from any real use.
LONGEST_LINE = 1 << 30


class Link(Protocol):
    """One connection."""

    async def send(self, message: str) -> None: ...

    async def receive(self) -> bytes | None:
        """The next message; None at the end."""
        ...

    async def close(self) -> None: ...


class WebSocketLink:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @classmethod
    async def open(cls, url: str, token: str | None) -> WebSocketLink:
        headers = {"Authorization": f"Bearer {token}"} if token else None
        socket = await connect_websocket(
            url,
            additional_headers=headers,
            user_agent_header=None,
            compression=None,
            max_size=None,
            # A peer that is gone is noticed within this time.
            ping_interval=15,
            ping_timeout=30,
            open_timeout=10,
            close_timeout=2,
            # Enough for the two sides not to wait for each other, and bounded.
            max_queue=64,
        )
        return cls(socket)

    async def send(self, message: str) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise ConnectionError(str(error)) from error

    async def receive(self) -> bytes | None:
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed:
            return None

    async def close(self) -> None:
        await self._socket.close()


class LineLink:
    """Lines over two streams; a child that belongs to them ends with them."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        child: asyncio.subprocess.Process | None = None,
    ) -> None:
        self._reader, self._writer, self._child = reader, writer, child

    @classmethod
    async def unix(cls, path: str) -> LineLink:
        reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
        return cls(reader, writer)

    @classmethod
    async def command(cls, argv: Sequence[str]) -> LineLink:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            start_new_session=True,
        )
        assert child.stdin is not None and child.stdout is not None
        return cls(child.stdout, child.stdin, child)

    async def send(self, message: str) -> None:
        self._writer.write(message.encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> bytes | None:
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return None
            if not line:
                return None
            if line.strip():
                return line

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        if self._child is None:
            return
        try:
            # A server over pipes ends when its input does.
            await asyncio.wait_for(self._child.wait(), 2)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            await self._child.wait()
