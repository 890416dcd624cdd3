"""Uses another machine through an exec-server: programs, files and HTTP.

    async with codex_exec.connect("ws://127.0.0.1:4500") as env:
        done = await env.run(["make", "-j4"], cwd="/srv/app")
        print(done.exit_code, done.stdout.decode())
"""

from ._environment import Environment, Response, connect
from ._errors import ConnectionLost, ExecError, RequestFailed
from ._process import Completed, Exit, Output, Process
from ._files import Entry, Files, Metadata

__all__ = [
    "Completed",
    "ConnectionLost",
    "Entry",
    "Environment",
    "ExecError",
    "Exit",
    "Files",
    "Metadata",
    "Output",
    "Process",
    "RequestFailed",
    "Response",
    "connect",
]
