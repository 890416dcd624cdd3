"""The same story over and over, each time over a connection that is cut behind another message: nothing is lost or doubled, and
nothing ends that has not.

Started by tests/tests/e2e/sdk.rs, which makes the sockets: that named N cuts its first connection behind N messages.
"""

import asyncio
import os
import sys

import codex_exec

PROGRAM = "i=0; while [ $i -lt 20 ]; do echo line $i; sleep 0.005; i=$((i+1)); done; echo err >&2; read a; echo got $a; exit 5"
LINES = "".join(f"line {i}\n" for i in range(20)) + "got it\n"


async def story(place: str) -> None:
    # A connection that is lost in the handshake, and a start whose answer was lost, are said to be: the second connection is
    # not cut.
    try:
        env = await codex_exec.connect(place)
    except codex_exec.ExecError:
        env = await codex_exec.connect(place)
    try:
        process = await env.start(["sh", "-c", PROGRAM], stdin=True)
    except codex_exec.ConnectionLost:
        process = await env.start(["sh", "-c", PROGRAM], stdin=True)
    await process.stdin.write("it\n")
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    end = await process.wait()
    assert (out.decode(), err, end.exit_code) == (LINES, b"err\n", 5), (place, out, err, end)
    await env.close()


async def main() -> None:
    for name in sorted(os.listdir(sys.argv[1]), key=int):
        async with asyncio.timeout(60):
            await story(f"unix://{sys.argv[1]}/{name}")


asyncio.run(main())
