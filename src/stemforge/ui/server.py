"""A studio as a server on this machine."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from stemforge.errors import UsageError
from stemforge.ui.app import Studio, application
from stemforge.ui.guard import Names

if TYPE_CHECKING:
    from types import FrameType

_GRACE = 2  # seconds that answers may take when the server ends


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a browser may be opened at once; port 0 takes a free one.

    Raises:
        UsageError: the port is taken, or there is no such address here.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"'{host}', port {port}: cannot be listened to: {why}. Try --port 0, or another host."
        ) from None


def server(studio: Studio, names: Names) -> uvicorn.Server:
    """What serves a studio; it says nothing, and ends when its `should_exit` is set."""
    app = application(studio, names)
    return uvicorn.Server(uvicorn.Config(
        app, log_config=None, log_level="critical", access_log=False, lifespan="off", ws="none", loop="asyncio",
        http="h11", server_header=False, proxy_headers=False, timeout_graceful_shutdown=_GRACE,
    ))  # fmt: skip


def serve(studio: Studio, names: Names, listening: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM comes, then return."""
    with _returning():
        server(studio, names).run(sockets=[listening])


@contextmanager
def _returning() -> Iterator[None]:
    """The signals that end the server do nothing more when it sends them again at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def nothing(number: int, frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, nothing) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
