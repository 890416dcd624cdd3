"""What the Python client carries: MB/s of a program's output, and small requests a second on one connection.

Started by bench/src/cases/agents.rs: PLACE MEGABYTES REQUESTS. Prints one JSON object.
"""

import asyncio
import json
import sys
import time

import codex_exec


async def output(env: codex_exec.Environment, megabytes: int) -> float:
    size = megabytes * 1_000_000
    since = time.perf_counter()
    process = await env.start(["head", "-c", str(size), "/dev/zero"])
    total = 0
    async for piece in process.stdout:
        total += len(piece)
    seconds = time.perf_counter() - since
    await process.wait()
    assert total == size, f"{total} bytes came instead of {size}"
    return megabytes / seconds


async def requests(env: codex_exec.Environment, count: int, at_once: int) -> float:
    async def some() -> None:
        for _ in range(count // at_once):
            await env.files.stat("/")

    since = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return count / (time.perf_counter() - since)


async def main() -> None:
    place, megabytes, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    async with codex_exec.connect(place) as env:
        await output(env, max(1, megabytes // 10))
        values = {
            "mb_per_s": await output(env, megabytes),
            "requests_per_s": await requests(env, count, 16),
            "one_by_one_per_s": await requests(env, count // 4, 1),
        }
    print(json.dumps(values))


asyncio.run(main())
