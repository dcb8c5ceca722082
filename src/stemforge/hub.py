"""The Hugging Face Hub: files of a repository at a revision into the Hub's cache, and files into a repository.

A thin wrapper around `huggingface_hub`, which does the transfers, resuming, locks, proxies and tokens, and which reads
HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN when it is imported, so it is imported late. Added here:
the sha256 of every pinned file is checked, one that does not match is taken out of the cache, and errors are one line.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from stemforge.errors import CheckpointError, UsageError

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a file, the bytes of it so far, and all its bytes where that is known."""
Files = Mapping[str, str | None]
"""Names in a repository, each with its sha256 in hexadecimal digits, or None where none is pinned."""

COMMIT = re.compile("[0-9a-f]{40}")
_ADDRESS = re.compile(r"(?:hf:/{1,2})?([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")


def parse(address: str) -> tuple[str, str]:
    """Repository and revision (commit, tag or branch; main when there is none) of hf://org/repo@revision.

    Raises:
        UsageError: it has another form.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"'{address}': is no repository. Write hf://org/repo or hf://org/repo@revision.")
    return match[1], match[2] or "main"


def place(repo: str, revision: str) -> Path:
    """The folder in the cache where the files of a commit are once they are there."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots" / revision


def cache() -> Path:
    """The folder of the Hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def page(repo: str) -> str:
    """The address of a repository in a browser."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo}"


def cached(repo: str, revision: str, files: Files) -> Path | None:
    """The folder of the cache that holds all files of a revision; None when one is missing. Uses no network."""
    if COMMIT.fullmatch(revision):  # a commit never moves, and the client takes its time to import
        folder = place(repo, revision)
        return folder if all((folder / file).is_file() for file in files) else None
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repo, file, revision=revision) for file in files]
    folders = {Path(at).parents[file.count("/")] for at, file in zip(found, files, strict=True) if isinstance(at, str)}
    return folders.pop() if all(isinstance(at, str) for at in found) and len(folders) == 1 else None


def pull(
    repo: str, revision: str, files: Files, on_progress: Progress | None = None, *, name: str | None = None
) -> Path:
    """Download what is not in the cache yet, check every pinned sha256, and give the folder that holds the files.

    A branch or tag is looked up once, so that all files are of one commit. A file of the cache that was damaged is
    downloaded again. A transfer that broke leaves no file.

    Args:
        repo: as org/name.
        revision: commit, tag or branch.
        files: what is wanted of it.
        on_progress: told about the bytes of every file that is transferred.
        name: what the user calls it, for messages.

    Raises:
        CheckpointError: it is gated, missing, not to be reached, not what its sha256 says, or the disk is full.
    """
    name = name or f"hf://{repo}@{revision}"
    folder, commit = place(repo, revision), revision
    for file, sha256 in files.items():
        with _told(repo, revision, name, file):
            path = _fetched(repo, commit, file, sha256, on_progress or (lambda *_: None), name)
        folder = path.parents[file.count("/")]
        commit = folder.name
    return folder


def push(files: Mapping[str, Path | bytes], repo: str, *, private: bool = False, message: str) -> str:
    """Write files into a repository in one commit; it is made when it is not there. The address with the commit.

    Raises:
        CheckpointError: there is no token, it may not write there, or the Hub is not to be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    with _told(repo, "main", f"hf://{repo}", ""):
        if not offline() and get_token() is None:
            raise CheckpointError(f"hf://{repo}: no token to push with. Run `hf auth login`, or set HF_TOKEN.")
        api = HfApi(library_name="stemforge")
        api.create_repo(repo, private=private or None, exist_ok=True)
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        commit = api.create_commit(repo, operations, commit_message=message)
    return f"hf://{repo}@{commit.oid}"


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """The same, computed once in a process as long as nobody writes to the file."""
    found = path.stat()
    return _sum(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=64)
def _sum(path: Path, version: tuple[int, ...]) -> str:
    return sha256_of(path)


def _fetched(repo: str, commit: str, file: str, sha256: str | None, on_progress: Progress, name: str) -> Path:
    """One file, of which the sha256 is right; one that was in the cache and is not right is transferred again."""
    from huggingface_hub import hf_hub_download

    found = ""
    for force in (False, True):
        bar = _bar(partial(on_progress, file))
        path = Path(str(hf_hub_download(repo, file, revision=commit, force_download=force, tqdm_class=bar)))
        found = sha256_of(path) if sha256 else ""
        if found == (sha256 or ""):
            return path
        path.unlink()
        if bar.moved:
            break
    raise CheckpointError(
        f"checkpoint '{name}': '{file}' came with sha256 {found}, not {sha256}, and was thrown away. "
        "Try again; if it stays so, the file or the table was changed: ask who made it."
    )


class _Bar:
    """What the client takes for a progress bar; it tells a function instead."""

    moved = False
    tell: Callable[[int, int | None], None]

    def __init__(self, *, total: int | None = None, initial: int = 0, **_: object) -> None:
        self.n, self.total = initial, total

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, count: float | None = 1) -> None:
        """So many more bytes of the file are there."""
        type(self).moved = True
        self.n += int(count or 0)
        self.tell(self.n, self.total)

    def close(self, *_: object, **__: object) -> None:
        """Nothing; nor for any other thing that the client has to say to a bar."""

    refresh = set_postfix_str = set_transfer_postfix_str = update_transfer = close


def _bar(tell: Callable[[int, int | None], None]) -> type[_Bar]:
    """A class of its own for one file, because the client makes the bar."""

    class Bar(_Bar):
        pass

    Bar.tell = staticmethod(tell)
    return Bar


@contextmanager
def _told(repo: str, revision: str, name: str, file: str) -> Iterator[None]:
    """The client inside prints nothing, and what it raises becomes a CheckpointError of one line."""
    from huggingface_hub import errors

    transport: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        with _quiet():
            yield
    except (transport, errors.XetDownloadError, errors.EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint '{name}': {_why(error, repo, revision, file, name)}") from error


def _why(error: BaseException, repo: str, revision: str, file: str, name: str) -> str:
    """What happened and what to do."""
    from huggingface_hub import constants, errors

    wrappers = (errors.LocalEntryNotFoundError, ValueError, RuntimeError)
    while isinstance(error, wrappers) and not isinstance(error, errors.HfHubHTTPError) and error.__cause__:
        error = error.__cause__
    host, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error, repo, revision, file)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"is not in the cache '{cache}', and HF_HUB_OFFLINE is set. Unset it, or run "
            f"`stemforge checkpoints pull {name}` where there is a network and copy the cache."
        )
    if isinstance(error, errors.HTTPError):  # type: ignore[attr-defined]
        return (
            f"the connection to {host} failed: {_short(error)}. Check the network, HTTPS_PROXY and HF_ENDPOINT, "
            "and try again; nothing half-loaded is kept."
        )
    if isinstance(error, errors.FileMetadataError):
        return f"{host} does not answer as a Hub does. Check HF_ENDPOINT, the proxy and the firewall."
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left for '{file}' in the cache '{cache}'. Free some, or set HF_HOME to a folder on another "
            "disk, and try again; nothing half-loaded is kept."
        )
    if number is not None:
        return f"the cache '{cache}' cannot be used: {_short(error)}. Set HF_HOME to a folder that can be written."
    return f"the transfer broke: {_short(error)}. Try again; nothing half-loaded is kept."


def _refusal(error: Exception, repo: str, revision: str, file: str) -> str:
    """What the server said no to, and what to do."""
    from huggingface_hub import constants, errors

    reasons: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, f"is gated. Ask for access at {page(repo)}, then run `hf auth login` and try again."),
        (
            errors.RepositoryNotFoundError,
            f"there is no repository {repo}, or it is private. Check the name; for a private one, run "
            "`hf auth login` or set HF_TOKEN.",
        ),
        (errors.RevisionNotFoundError, f"{repo} has no revision {revision}. Look at {page(repo)} for those it has."),
        (errors.EntryNotFoundError, f"{repo} has no file '{file}' at {revision}. It holds no checkpoint of stemforge."),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    status = getattr(getattr(error, "response", None), "status_code", 0)
    said = getattr(error, "server_message", None)
    todo = {401: "Run `hf auth login`, or correct HF_TOKEN.", 403: "Give a token that may do this."}
    answer = f"{status}: {_short(said)}" if said else str(status)
    return f"{constants.ENDPOINT} answered {answer}. {todo.get(status, 'Try again later.')}"


def _short(said: object) -> str:
    """The first line of a message, without a full stop."""
    return next(iter(str(said).strip().splitlines()), type(said).__name__).strip().rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars, warnings and logged warnings of the client; a level that the user chose stays."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from huggingface_hub.utils import (
        logging as client,
    )

    level, bars = client.get_verbosity(), not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if level == logging.WARNING:
                client.set_verbosity(logging.ERROR)
            if bars:
                disable_progress_bars()
            yield
        finally:
            client.set_verbosity(level)
            if bars:
                enable_progress_bars()
