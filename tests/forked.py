"""The `stemforge` command in real processes that start fast, forked from one that has imported all and run nothing.

`python tests/forked.py` reads requests from its standard input, one JSON object a line, and answers with exit codes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
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
            print(json.dumps(request), file=self._server.stdin, flush=True)
            code = int(self._server.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def serve() -> None:
    """Fork for every request; the child is the command."""
    import stemforge.cli.separate_song
    import stemforge.models.forge  # noqa: F401
    from shares import Shares
    from stemforge.cli.main import run
    from stemforge.models.registry import ARCHITECTURES

    ARCHITECTURES["shares"] = Shares
    for line in sys.stdin:
        request = json.loads(line)
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.argv = ["stemforge", *request["arguments"]]
        run()


if __name__ == "__main__":
    serve()
