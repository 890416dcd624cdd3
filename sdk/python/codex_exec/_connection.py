"""A session on a connection that may be lost and taken up again, with nothing lost or doubled (5, 15.4)."""

from __future__ import annotations

import asyncio
import itertools
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ._errors import ConnectionLost, ExecError, RequestFailed
from ._links import Link

#: After a loss, for so long a resume is tried, and so long apart. Seconds.
RECOVERY_TIME = 25.0
RETRY_PAUSE = 0.1
#: Bytes that wait for one reader; then the connection is not read. While a call waits for its answer, it is read on up to
#: the second.
QUEUED = 2 << 20
QUEUED_WITH_CALLS = 16 << 20
#: A session that another connection seems to hold (-32010): it is asked for again.
ATTACHED = -32010
#: Requests that may be repeated without harm.
REPEATABLE = {"process/read", "process/terminate", "process/wait", "process/list", "session/end"}

_OUTPUT = b'{"method":"process/output","params":{"processId":'


class Follower(Protocol):
    """What a notification goes to."""

    queued: int
    room: asyncio.Event

    @property
    def published(self) -> int: ...

    @property
    def over(self) -> bool: ...

    def output(self, seq: int, stream: str, chunk: bytes) -> None: ...

    def event(self, method: str, params: dict[str, Any]) -> None: ...

    def recovered(self, read: dict[str, Any]) -> None: ...

    def lost(self, reason: str) -> None: ...


class _Call:
    __slots__ = ("answer", "message", "method", "repeatable")

    def __init__(self, method: str, message: str, repeatable: bool) -> None:
        self.method, self.message, self.repeatable = method, message, repeatable
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Connection:
    """Calls, and what comes unasked."""

    def __init__(self, dial: Callable[[], Awaitable[Link]], resumable: bool) -> None:
        self._dial, self._resumable = dial, resumable
        self._ids = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self.followers: dict[str, Follower] = {}
        self.bodies: dict[str, asyncio.Queue[dict[str, Any] | None]] = {}
        self._link: Link | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ended: str | None = None
        self._called = asyncio.Event()
        self.session_id = ""
        self.info: dict[str, Any] | None = None

    async def open(self, resume: str | None = None) -> None:
        """Connects, and opens a session or takes one up."""
        self._link = await self._dial()
        try:
            await self._shake_hands(self._link, resume)
        except OSError as error:
            await self._link.close()
            raise ConnectionLost(f"the connection was lost in the handshake: {error}") from error
        except BaseException:
            await self._link.close()
            raise
        self._reader = asyncio.create_task(self._serve())

    async def _shake_hands(self, link: Link, resume: str | None) -> None:
        number = next(self._ids)
        params = {"clientName": "codex-exec-python", "resumeSessionId": resume}
        await link.send(json.dumps({"id": number, "method": "initialize", "params": params}))
        async with asyncio.timeout(10):
            while True:
                text = await link.receive()
                if text is None:
                    raise ConnectionLost("the server ended the connection in the handshake")
                message = json.loads(text)
                if message.get("id") == number and "method" not in message:
                    break
        if error := message.get("error"):
            raise RequestFailed("initialize", error["code"], error["message"], error.get("data"))
        self.session_id = message["result"]["sessionId"]
        self.info = message["result"].get("environmentInfo", self.info)
        await link.send('{"method":"initialized","params":{}}')

    async def call(self, method: str, params: dict[str, Any] | None = None, *, repeatable: bool | None = None) -> Any:
        """Calls a method and gives its result."""
        if self._ended is not None:
            raise ConnectionLost(self._ended)
        number = next(self._ids)
        message = json.dumps({"id": number, "method": method, "params": params or {}}, separators=(",", ":"))
        safe = method in REPEATABLE if repeatable is None else repeatable
        call = _Call(method, message, safe)
        self._calls[number] = call
        self._called.set()
        try:
            if self._link is not None:
                try:
                    await self._link.send(message)
                except (ConnectionError, OSError):
                    # The reader notices, and either repeats it or says so.
                    pass
            return await call.answer
        finally:
            self._calls.pop(number, None)

    async def _serve(self) -> None:
        reason = "the connection was closed"
        try:
            while True:
                reason = await self._read_all()
                if not self._resumable or not await self._resume(reason):
                    break
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, everybody who waits has to hear of it)
            reason = f"the connection broke: {error}"
        finally:
            self._end(reason)

    async def _read_all(self) -> str:
        link = self._link
        assert link is not None
        while True:
            try:
                text = await link.receive()
            except (ConnectionError, OSError, ValueError) as error:
                return f"the connection was lost: {error}"
            if text is None:
                return "the connection was lost"
            follower = self._route(text)
            if follower is not None and follower.queued >= QUEUED:
                await self._room(follower)

    async def _room(self, follower: Follower) -> None:
        """Waits until a reader has taken something: the server, and so the program, waits with us."""
        while follower.queued >= (QUEUED_WITH_CALLS if self._calls else QUEUED):
            follower.room.clear()
            self._called.clear()
            if self._calls and follower.queued < QUEUED_WITH_CALLS:
                return
            waits = {asyncio.ensure_future(follower.room.wait()), asyncio.ensure_future(self._called.wait())}
            _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in pending:
                wait.cancel()

    def _route(self, text: bytes) -> Follower | None:
        if text.startswith(_OUTPUT):
            # The many: taken apart without a parser, as far as they look as usual.
            found = self._output(text)
            if found is not None:
                return found
        message = json.loads(text)
        method = message.get("method")
        if method is None:
            self._answered(message)
            return None
        if "id" in message:
            refusal = {"id": message["id"], "error": {"code": -32601, "message": f"unknown method: {method}"}}
            asyncio.ensure_future(self._tell(json.dumps(refusal)))
            return None
        params = message.get("params") or {}
        if method == "http/request/bodyDelta":
            queue = self.bodies.get(params["requestId"])
            if queue is not None:
                queue.put_nowait(params)
            return None
        follower = self.followers.get(params.get("processId", ""))
        if follower is None:
            return None
        if method == "process/output":
            follower.output(params["seq"], params["stream"], b64decode(params["chunk"]))
        else:
            follower.event(method, params)
        return follower

    def _output(self, text: bytes) -> Follower | None:
        end = text.rfind(b'"}}')
        begin = text.rfind(b'"chunk":"', 0, 4096)
        if begin < 0 or end < begin:
            return None
        head = json.loads(text[:begin] + b'"chunk":""}}')["params"]
        follower = self.followers.get(head["processId"])
        if follower is not None:
            follower.output(head["seq"], head["stream"], b64decode(text[begin + 9 : end]))
        return follower

    async def _tell(self, message: str) -> None:
        if self._link is not None:
            try:
                await self._link.send(message)
            except (ConnectionError, OSError):
                pass

    def _answered(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        call = self._calls.get(number) if isinstance(number, int) else None
        if call is None or call.answer.done():
            return
        if error := message.get("error"):
            call.answer.set_exception(RequestFailed(call.method, error["code"], error["message"], error.get("data")))
        else:
            call.answer.set_result(message.get("result"))

    async def _resume(self, reason: str) -> bool:
        """Takes the session up again; everything that can't be repeated fails at once."""
        for call in list(self._calls.values()):
            if not call.repeatable and not call.answer.done():
                call.answer.set_exception(ConnectionLost(f"{call.method}: {reason}; whether it was done is not known"))
        for queue in self.bodies.values():
            queue.put_nowait(None)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RECOVERY_TIME
        while loop.time() < deadline:
            try:
                link = await self._dial()
                try:
                    await self._shake_hands(link, self.session_id)
                except BaseException:
                    await link.close()
                    raise
            except RequestFailed as error:
                if error.code != ATTACHED:
                    return False
            except (OSError, ExecError, asyncio.TimeoutError, ValueError):
                pass
            except Exception as error:  # noqa: BLE001  (the library's own kinds of a failed handshake)
                if type(error).__module__.split(".")[0] != "websockets":
                    raise
            else:
                self._link = link
                waiting = [call for call in self._calls.values() if not call.answer.done()]
                for call in waiting:
                    await self._tell(call.message)
                for follower in list(self.followers.items()):
                    asyncio.ensure_future(self._recover(*follower))
                return True
            await asyncio.sleep(RETRY_PAUSE)
        return False

    async def _recover(self, process: str, follower: Follower) -> None:
        """Reads what was missed while nobody was connected."""
        if follower.over:
            return
        try:
            params = {"processId": process, "afterSeq": follower.published, "waitMs": 0}
            follower.recovered(await self.call("process/read", params))
        except ExecError as error:
            follower.lost(str(error))

    def _end(self, reason: str) -> None:
        self._ended = reason
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.set_exception(ConnectionLost(f"{call.method}: {reason}"))
        for follower in self.followers.values():
            follower.lost(reason)
        for queue in self.bodies.values():
            queue.put_nowait(None)

    async def close(self, *, end_session: bool) -> None:
        """Ends the connection; with the session, unless that is to be taken up elsewhere."""
        if self._ended is None and end_session:
            try:
                async with asyncio.timeout(2):
                    await self.call("session/end")
            except (ExecError, asyncio.TimeoutError):
                # Released servers do not know the method; the session ends by itself after a while.
                pass
        self._resumable = False
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
        self._end("the connection was closed")
