"""The `stemforge` command in real processes that start fast, forked from one that has imported all and run nothing.

`python tests/forked.py` reads requests from its standard input, one JSON object a line, and answers with numbers: that
of the process, or its exit code.
`python tests/forked.py SOCKET` serves a program for shells; `python tests/forked.py SOCKET ARGUMENTS...` is it,
with the standard streams, the folder and the environment of its caller.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path


class Commands:
    """Context manager; `run` is like subprocess.run with the arguments of `stemforge`."""

    def __enter__(self) -> Commands:
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=60)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command in the working folder and environment of the caller."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            files = {"stdout": str(out), "stderr": str(err)}
            request = {"arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ), **files}
            code = self.wait(self._ask(request))
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def start(self, *arguments: str) -> int:
        """The process of a command that runs by itself, its output lost; `wait` for it."""
        files = {"stdout": os.devnull, "stderr": os.devnull}
        return self._ask({"arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ), **files})

    def wait(self, process: int) -> int:
        """The exit code of a process, or minus the signal that ended it."""
        return self._ask({"wait": process})

    def _ask(self, request: dict) -> int:
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())


class Shell:
    """Context manager; `run` is a line of bash in which `stemforge` is the command, started from the socket server."""

    def __enter__(self) -> Shell:
        self._folder = tempfile.TemporaryDirectory()
        self._socket = str(Path(self._folder.name, "s"))
        self._server = subprocess.Popen([sys.executable, __file__, self._socket])
        program = Path(self._folder.name, "bin", "stemforge")
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} {self._socket} "$@"\n')
        program.chmod(0o755)
        deadline = time.monotonic() + 300
        while not Path(self._socket).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()
        self._folder.cleanup()

    def run(self, line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """The line with `pipefail`, in the working folder of the caller."""
        path = f"{self._folder.name}/bin:{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, **environment}
        command = ["bash", "-o", "pipefail", "-c", line]
        return subprocess.run(command, env=variables, capture_output=True, check=False, timeout=120)


def serve_socket(path: str) -> None:
    """Fork for every connection; that process forks the command and sends its exit code."""
    prepare()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path + ".new")
    server.listen()
    Path(path + ".new").rename(path)
    while True:
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if child := os.fork():
            for stream in streams:
                os.close(stream)
            connection.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os._exit(0)
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        command(json.loads(message))


def ask(path: str, arguments: list[str]) -> int:
    """The exit code of a command that the server runs for this process."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = {"arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        for stream in (0, 1, 2):  # so that the readers and writers of the pipes see those of the command alone
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        return int(connection.recv(16))


def command(request: dict) -> None:
    """This process becomes the command."""
    from stemforge.cli.main import run

    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["stemforge", *request["arguments"]]
    run()


def prepare() -> None:
    """Import all that the command needs, and the network of the tests."""
    with suppress(ImportError):  # typer loads it with the first option that it parses, which takes longest of all
        importlib.import_module("typer._adapters")
    import stemforge.cli.separate_song
    import stemforge.models.forge  # noqa: F401
    from shares import Shares
    from stemforge.models.registry import ARCHITECTURES

    ARCHITECTURES["shares"] = Shares


def serve() -> None:
    """Fork for every request; the child is the command."""
    prepare()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
            continue
        if child := os.fork():
            print(child, flush=True)
            continue
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
        command(request)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
    elif len(sys.argv) == 2:
        serve_socket(sys.argv[1])
    else:
        serve()
