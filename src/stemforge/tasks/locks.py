"""One process at a time for the stems of a song: a lock file that names its process and its machine.

The lock of a process that was killed is taken over: on the same machine at once, since the process does not run any
more; from another machine (a shared disk) when the lock was not touched for a while, which its owner does all the time.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from stemforge.errors import StemforgeError

BEAT = 20.0
"""Seconds between two touches of a lock."""
DEAD_AFTER = 300.0
"""Seconds without a touch after which the lock of another machine counts for nothing."""

_TRIES = 100


class LockedError(StemforgeError):
    """Another process has the lock; `owner` says which."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class Lock:
    """Owns `path` from `acquire` to the end of its `with`; its folder is made, and goes again when it stayed empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = secrets.token_hex(8)
        self._over = threading.Event()
        self._made: list[Path] = []

    def acquire(self) -> Lock:
        """Itself, for `with`. Raises LockedError when another process owns it, OSError when it cannot be written."""
        folder = self.path.parent
        self._made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        try:
            self._acquire()
            threading.Thread(target=self._beat, daemon=True).start()
        except BaseException:  # a signal while the thread begins finds a lock that is there already
            self._release()
            raise
        return self

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        """Take the lock away if it is ours, and the folders that were made for it and stayed empty."""
        self._over.set()
        with suppress(OSError):
            if _token(self.path) == self._token:
                self.path.unlink()
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def _acquire(self) -> None:
        own = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        for _ in range(_TRIES):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                own.write_text(json.dumps(_identity(os.getpid()) | {"token": self._token}), encoding="utf-8")
                _put(own, self.path)
                return
            except FileNotFoundError:  # another process took the empty folder away
                continue
            except FileExistsError:
                self._free_or_raise()
            finally:
                own.unlink(missing_ok=True)
        raise LockedError("another process")

    def _free_or_raise(self) -> None:
        """Take the lock of a dead process away; LockedError when its owner lives."""
        with suppress(FileNotFoundError):
            found = self.path.read_bytes()
            if owner := _living(found, self.path):
                raise LockedError(owner)
            aside = self.path.with_name(f"{self.path.name}.{self._token}.{os.getpid()}.part")
            self.path.rename(aside)
            if aside.read_bytes() != found:  # a third process was faster: this lock is its new one
                aside.rename(self.path)
                raise LockedError("another process")
            aside.unlink()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):
                os.utime(self.path)


def clear(path: Path) -> None:
    """Take away the lock of a process that was killed after its last file; that of a living one stays."""
    if path.exists():
        with suppress(LockedError, OSError), Lock(path).acquire():
            pass


def _put(own: Path, path: Path) -> None:
    """Give `own` the name `path` as well, in one step; FileExistsError when that is taken."""
    try:
        os.link(own, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a disk without links
        with path.open("xb") as file:
            file.write(own.read_bytes())


def _identity(process: int) -> dict[str, object]:
    """What tells a process from all others on all machines, those that had its number before included."""
    return {"host": socket.gethostname(), "pid": process, "begun": _begun(process)}


def _begun(process: int) -> str | None:
    """When a process began, where the system says so."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _living(contents: bytes, path: Path) -> str | None:
    """The owner of a lock in words, or None when it does not run any more."""
    try:
        lock = json.loads(contents)
        host, process, begun = str(lock["host"]), int(lock["pid"]), lock["begun"]
    except (ValueError, KeyError, TypeError):
        return None if _age(path) > BEAT else "another process"
    if host != socket.gethostname() or os.name != "posix":
        return None if _age(path) > DEAD_AFTER else f"process {process} on {host}"
    same = begun is None or begun == _begun(process)
    return f"process {process}" if same and runs(process) else None


def _age(path: Path) -> float:
    """Seconds since the lock was touched, by the clock of the disk it is on."""
    probe = path.with_name(f"{path.name}.{secrets.token_hex(4)}.{os.getpid()}.part")
    try:
        probe.touch()
        now = probe.stat().st_mtime
    except OSError:
        now = time.time()
    finally:
        probe.unlink(missing_ok=True)
    return now - path.stat().st_mtime


def _token(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def runs(process: int) -> bool:
    """True while there is a process of that number on this machine, and where only posix could tell."""
    if process == os.getpid() or os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
