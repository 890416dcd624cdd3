"""The library against the built server: loopback, token, Unix socket, pipes, and every way to lose a connection.

Started by tests/tests/e2e/sdk.rs, which says in variables where the binary is.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest

import codex_exec
from codex_exec._connection import QUEUED, Connection

CODEX = os.environ["CODEX_BINARY"]

with open(os.path.join(os.path.dirname(__file__), "../../../docs/protocol.schema.json")) as page:
    SCHEMA = json.load(page)


def known(schema: dict) -> set[str] | None:
    """The members that an object of this schema may have; None where it says nothing of them."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return set(schema["properties"]) if "properties" in schema else None


def checked(call):
    """Holds every request of these tests, and its answer, against the schema of the protocol."""

    async def call_checked(self, method, params=None, **options):
        words = SCHEMA["methods"][method]
        if (names := known(words["params"])) is not None:
            assert set(params or {}) <= names, f"{method} with {set(params or {}) - names}"
        result = await call(self, method, params, **options)
        if (names := known(words["result"])) is not None:
            assert set(result) <= names, f"{method} answers {set(result) - names}"
        return result

    return call_checked


Connection.call = checked(Connection.call)  # type: ignore[method-assign]


@contextlib.contextmanager
def server(*arguments: str, listen: str = "ws://127.0.0.1:0"):
    """A running server, and its address."""
    command = [CODEX, "exec-server", "--listen", listen, *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip()
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


class Cutter:
    """A way to a server that cuts each connection after so many bytes in one direction."""

    def __init__(self, target: str, cuts: list[int]) -> None:
        self.host, port = target.removeprefix("ws://").split(":")
        self.port, self.cuts, self.made = int(port), cuts, 0

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.cuts[self.made] if self.made < len(self.cuts) else None
        self.made += 1
        there, to = await asyncio.open_connection(self.host, self.port)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None) -> None:
            while data := await source.read(65536):
                if limit is not None:
                    data, limit = data[:limit], limit - len(data[:limit])
                sink.write(data)
                await sink.drain()
                if limit == 0:
                    return

        tasks = {
            asyncio.ensure_future(carry(reader, to, None)),
            asyncio.ensure_future(carry(there, writer, left)),
        }
        with contextlib.suppress(Exception):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for each in (writer, to):
            with contextlib.suppress(Exception):
                each.transport.abort()


class Sdk(unittest.IsolatedAsyncioTestCase):
    async def the_usual(self, env: codex_exec.Environment) -> None:
        done = await env.run(["sh", "-c", "cat; echo err >&2; exit 3"], input="in")
        self.assertEqual((done.exit_code, done.stdout, done.stderr), (3, b"in", b"err\n"))
        async with await env.start(["cat"], tty=True) as terminal:
            await terminal.stdin.write("typed\n\x04")
            self.assertIn(b"typed", await terminal.stdout.read())
            self.assertEqual((await terminal.wait()).exit_code, 0)
        with tempfile.TemporaryDirectory() as ground:
            path = f"{ground}/a b/ä.txt"
            await env.files.mkdir(f"{ground}/a b")
            await env.files.write(path, "text")
            self.assertEqual(await env.files.read_text(path), "text")
            self.assertEqual((await env.files.stat(path)).size, 4)
            self.assertEqual([entry.name for entry in await env.files.list(f"{ground}/a b")], ["ä.txt"])
            self.assertEqual(await env.files.realpath(f"{ground}/a b/../a b"), f"{os.path.realpath(ground)}/a b")
            await env.files.copy(path, f"{ground}/copy")
            await env.files.remove(path)
            with self.assertRaises(codex_exec.RequestFailed) as failed:
                await env.files.read(path)
            self.assertEqual(failed.exception.code, -32004)
        with self.assertRaises(codex_exec.RequestFailed):
            await env.run(["/no/such/program"])

    async def test_every_way(self) -> None:
        with server() as url:
            async with codex_exec.connect(url) as env:
                await self.the_usual(env)
        async with codex_exec.connect([CODEX, "exec-server", "--listen", "stdio"]) as env:
            await self.the_usual(env)
        with tempfile.TemporaryDirectory() as ground:
            with server(listen=f"unix://{ground}/socket") as url:
                async with codex_exec.connect(url) as env:
                    await self.the_usual(env)
                # And through `connect`, as to any environment.
                carried = [CODEX, "exec-server", "connect", "--url", url, "--stdio"]
                async with codex_exec.connect(carried) as env:
                    await self.the_usual(env)

    async def test_token(self) -> None:
        with tempfile.NamedTemporaryFile("w") as token:
            token.write("sesame")
            token.flush()
            with server("--ws-auth", "capability-token", "--ws-token-file", token.name) as url:
                async with codex_exec.connect(url, token="sesame") as env:
                    self.assertEqual((await env.run(["true"])).exit_code, 0)
                with self.assertRaises(Exception):
                    await codex_exec.connect(url, token="sesam")

    async def test_lines_signals_and_deadlines(self) -> None:
        with server() as url:
            async with codex_exec.connect(url) as env:
                script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.01; done"
                async with await env.start(["sh", "-c", script]) as process:
                    self.assertEqual(await process.stdout.readline(), b"ready\n")
                    await process.send_signal("interrupt")
                    self.assertEqual(await process.stdout.readline(), b"caught\n")
                    self.assertEqual((await process.wait()).exit_code, 7)
                late = await env.run(["sleep", "1000"], timeout=0.05)
                self.assertTrue(late.timed_out)
                async with await env.start(["sleep", "1000"]) as process:
                    self.assertTrue(await process.kill())
                    self.assertEqual((await process.wait()).signal, 9)

    async def test_http(self) -> None:
        class Origin(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                self.send_response(201)
                self.send_header("x-a", "1")
                self.end_headers()
                self.wfile.write(b"body" * 1000)

            def log_message(self, *_: object) -> None:
                pass

        origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{origin.server_port}/"
        with server() as url:
            async with codex_exec.connect(url) as env:
                answer = await env.fetch(there)
                self.assertEqual((answer.status, answer.body), (201, b"body" * 1000))
                self.assertIn(("x-a", "1"), answer.headers)
                async with env.stream(there) as (head, body):
                    self.assertEqual((head.status, b"".join([piece async for piece in body])), (201, b"body" * 1000))
        origin.shutdown()
        origin.server_close()

    async def test_a_cut_loses_and_doubles_nothing(self) -> None:
        """Cut at many places of what the server sends: within messages and at their borders."""
        script = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; read a; echo got $a; exit 5"
        expected = b"".join(f"line {i}\n".encode() for i in range(300)) + b"got it\n"
        with server() as url:
            for cut in range(2000, 20000, 371):
                async with Cutter(url, [cut, cut // 2 + 1500]) as through:
                    async with codex_exec.connect(through) as env:
                        try:
                            process = await env.start(["sh", "-c", script], stdin=True)
                        except codex_exec.ConnectionLost:
                            # Cut before the answer: that is said, and nothing else is promised.
                            continue
                        await process.stdin.write("it\n")
                        self.assertEqual(await process.stdout.read(), expected, cut)
                        self.assertEqual((await process.wait()).exit_code, 5, cut)

    async def test_a_handle_is_picked_up_by_another_process(self) -> None:
        with server() as url:
            env = await codex_exec.connect(url)
            process = await env.start(["sh", "-c", "echo one; echo two; read a; echo got $a; exit 4"], stdin=True)
            self.assertEqual(await process.stdout.readline(), b"one\n")
            handle = await env.detach()
            program = (
                "import asyncio, sys, codex_exec\n"
                "async def main():\n"
                "    async with codex_exec.connect(sys.argv[1], handle=sys.argv[2]) as env:\n"
                "        (process,) = env.processes().values()\n"
                "        await process.stdin.write('it\\n')\n"
                "        print((await process.stdout.read()).decode(), (await process.wait()).exit_code)\n"
                "asyncio.run(main())\n"
            )
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, url, handle, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await child.communicate()
            self.assertEqual(output.decode(), "two\ngot it\n 4\n")

    async def test_a_slow_reader_makes_the_program_wait_and_loses_nothing(self) -> None:
        with server() as url:
            async with codex_exec.connect(url) as env:
                process = await env.start(["sh", "-c", "yes 0123456789abcde | head -c 50000000"])
                # Nobody reads until the client takes no more from the connection.
                while process.queued < QUEUED:
                    await asyncio.sleep(0)
                # Calls are answered while output waits, and the program has not come to its end.
                (program,) = (await env._connection.call("process/list"))["processes"]
                self.assertEqual(program["state"], "running")
                self.assertLess(process.queued, 20 << 20)
                self.assertEqual(len(await process.stdout.read()), 50_000_000)

    async def test_the_example_of_the_readme(self) -> None:
        with open(os.path.join(os.path.dirname(__file__), "..", "README.md")) as readme:
            example = readme.read().split("```python\n")[1].split("```")[0]
        with server() as url:
            example = example.replace("ws://127.0.0.1:4500", url)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", example, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await child.communicate()
        self.assertEqual((child.returncode, output), (0, b"Linux\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
