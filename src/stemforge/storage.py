"""Object storage: what an address as s3://bucket/songs names, through fsspec.

Files come from there and go there as a whole. Every kind of storage that fsspec knows will do; s3:// needs s3fs.
Credentials and endpoints are those that the kind of storage looks for itself, as AWS_PROFILE or AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge.errors import InputError, OutputError, StemforgeError, UsageError

if TYPE_CHECKING:
    _Native = Path
else:
    _Native = type(Path())  # before 3.12 a Path itself cannot be inherited from
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SCHEME = re.compile(r"(?!file:|local:)([a-z][a-z0-9+.-]+):[/\\]+(?=[^/\\])")


class Url(_Native):
    """An address that is joined, split and shown like a path, but never opened as one."""

    def __str__(self) -> str:
        """With the two slashes that a path makes one of."""
        return _SCHEME.sub(r"\1://", super().__str__().replace("\\", "/"), count=1)

    def absolute(self) -> Url:
        """Itself: it means the same everywhere."""
        return self


def located(path: Path) -> Path:
    """The path, as a `Url` where it is an address and no file is called like that."""
    return Url(path) if _SCHEME.match(str(path)) and not path.exists() else path


def below(url: Url) -> list[Url] | None:
    """All files below an address in the order of their names; None for a file.

    Raises InputError where there is nothing, UsageError for storage that is not known.
    """
    with _asking(url):
        system, path = _system(url)
        found = system.find(path)
        if not found:
            raise FileNotFoundError
        return None if found == [path] else [Url(system.unstrip_protocol(name)) for name in sorted(found)]


def names(folder: Url) -> set[str]:
    """The files right in a folder, as they are now; none where there is no folder. Raises InputError, UsageError."""
    with _asking(folder):
        system, path = _system(folder)
        system.invalidate_cache()
        # `ls` of a folder that is not there lists all that are beside it on S3.
        found = (name.removeprefix(f"{path}/") for name in system.find(path) if name != path)
        return {name for name in found if "/" not in name}


def fetch(url: Url, file: Path) -> None:
    """Write what is at an address to a file. Raises InputError, UsageError, and OSError where the disk is full."""
    with _asking(url):
        system, path = _system(url)
        system.get_file(path, str(file))


def put(url: Url, file: Path | None = None) -> None:
    """Write a file, or one without bytes, to an address. Raises OutputError, UsageError."""
    with _asking(url, writing=True):
        system, path = _system(url)
        if file is None:
            system.pipe_file(path, b"")
        else:
            system.put_file(str(file), path)


def remove(url: Url) -> None:
    """Take a file away. Raises OutputError, UsageError."""
    with _asking(url, writing=True):
        system, path = _system(url)
        system.rm_file(path)


def _system(url: Url) -> tuple[Any, str]:
    """The storage of an address, and the name there."""
    from fsspec.core import url_to_fs

    try:
        found: tuple[Any, str] = url_to_fs(str(url))
    except (ImportError, ValueError) as error:
        why = str(error).rstrip(".")
        raise UsageError(f"'{url}': {why}. For s3:// run `pip install 'stemforge[cluster]'`.") from None
    return found


@contextmanager
def _asking(url: Url, *, writing: bool = False) -> Iterator[None]:
    """What goes wrong becomes one line, but for a full disk here; every kind of storage has errors of its own."""
    try:
        yield
    except StemforgeError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in _FULL:
            raise
        why = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        if writing:
            raise OutputError(f"'{url}': cannot be written: {why}. Check the address and who may write.") from error
        if isinstance(error, FileNotFoundError):
            raise InputError(f"'{url}': nothing is there. Check the address.") from None
        raise InputError(f"'{url}': cannot be read: {why}. Check the address and who may read.") from error
