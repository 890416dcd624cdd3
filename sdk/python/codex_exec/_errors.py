"""What can go wrong."""

from __future__ import annotations

from typing import Any


class ExecError(Exception):
    """Something did not work."""


class RequestFailed(ExecError):
    """The server refused a request, or could not do it."""

    def __init__(self, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.method = method
        #: As section 17 of the protocol has it; -32004 for what is not there.
        self.code = code
        self.message = message
        self.data = data


class ConnectionLost(ExecError):
    """The connection is gone, so what became of a request is not known."""
