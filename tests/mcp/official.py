"""The official Python library as a client of `codex exec-server mcp`: both revisions, over pipes and HTTP.

Arguments: the binary, and the address of the tools over HTTP. Started by tests/tests/e2e/mcp/official.rs.
"""

import asyncio
import os
import sys
import tempfile

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

CODEX, URL = sys.argv[1:]
#: As they come to be in the library: that with `initialize`, and that without.
MODES = {"legacy": "2025-11-25", "auto": "2026-07-28"}


def over_pipes(mode):
    return Client(stdio_client(StdioServerParameters(command=CODEX, args=["exec-server", "mcp"])), mode=mode)


def over_http(mode):
    return Client(streamable_http_client(URL), mode=mode)


async def data(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, (tool, arguments, result)
    return result.structured_content


async def known(client, process):
    listed = (await data(client, "exec_list"))["processes"]
    return [line for line in listed if line["process"] == process]


async def the_usual(client, version):
    assert client.protocol_version == version, client.protocol_version
    assert client.server_info.name == "codex-exec-server", client.server_info
    names = [tool.name for tool in (await client.list_tools()).tools]
    assert len(names) == 13 and "exec" in names and "grep" in names, names
    done = await data(client, "exec", command="echo from python; exit 4")
    assert (done["output"], done["exit_code"]) == ("from python\n", 4), done
    wrong = await client.call_tool("exec_read", {"process": "nobody"})
    assert wrong.is_error and "no process" in wrong.content[0].text, wrong


async def streams(client, gate):
    """Hears of progress while a call goes on, which ends when it has been heard of twice."""
    heard = []

    async def progress(done, total, message):
        heard.append((done, message))
        if len(heard) == 2:
            open(gate, "w").close()

    command = f"echo begun; until test -e {gate}; do sleep 0.01; done"
    done = await client.call_tool("exec", {"command": command, "yield_ms": 45000}, progress_callback=progress)
    assert done.structured_content["exit_code"] == 0, done
    assert heard[0][0] < heard[1][0] and heard[0][1] == "running, 6 bytes printed", heard


async def cancels(client, gate):
    """Gives a call up; the program goes on, and so does everything else."""
    started = await data(client, "exec", command=f"until test -e {gate}; do sleep 0.01; done; echo end", yield_ms=0)
    process = started["process"]
    try:
        async with asyncio.timeout(0.3):
            await client.call_tool("exec_read", {"process": process, "yield_ms": 45000})
        raise AssertionError("it should have been given up")
    except TimeoutError:
        pass
    assert [line["state"] for line in await known(client, process)] == ["running"]
    open(gate, "w").close()
    end = await data(client, "exec_read", process=process, cursor=0, yield_ms=45000)
    assert (end["state"], end["output"]) == ("exited", "end\n"), end


async def many(client):
    """200 at once: each is answered, or told that there are 64 already."""
    results = await asyncio.gather(*(client.call_tool("exec", {"argv": ["echo", str(n)]}) for n in range(200)))
    right = 0
    for number, result in enumerate(results):
        if result.is_error:
            assert "64 programs run already" in result.content[0].text, result
        else:
            assert result.structured_content["output"] == f"{number}\n", result
            right += 1
    assert right >= 64, right
    assert len((await data(client, "exec_list"))["processes"]) <= 64


async def another_goes_on(mode, gate):
    """What one client began, and left without a word, another finishes."""
    first = over_http(mode)
    async with first:
        started = await data(first, "exec", command=f"echo one; until test -e {gate}; do sleep 0.01; done; echo two", yield_ms=0)
    async with over_http(mode) as second:
        assert len(await known(second, started["process"])) == 1
        open(gate, "w").close()
        end = await data(second, "exec_read", process=started["process"], cursor=0, yield_ms=45000)
        assert (end["state"], end["output"]) == ("exited", "one\ntwo\n"), end


async def the_end_ends_programs(mode):
    async with over_pipes(mode) as client:
        started = await data(client, "exec", command="echo $$; exec sleep 1000", yield_ms=0)
        shown = started["output"]
        while not shown:
            shown = (await data(client, "exec_read", process=started["process"], cursor=0, yield_ms=50))["output"]
    for _ in range(500):
        try:
            os.kill(int(shown), 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the program outlives its client")


async def main():
    with tempfile.TemporaryDirectory() as ground:
        for mode, version in MODES.items():
            for name, connect in (("pipes", over_pipes), ("http", over_http)):
                gate = f"{ground}/{name}-{version}"
                async with connect(mode) as client:
                    await the_usual(client, version)
                    await streams(client, gate + "-progress")
                    await cancels(client, gate + "-cancel")
                    if name == "pipes":
                        await many(client)
            await another_goes_on(mode, f"{ground}/another-{version}")
            await the_end_ends_programs(mode)
    print("fine")


asyncio.run(main())
