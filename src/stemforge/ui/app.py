"""What the browser asks for: the page, songs, jobs and files. All answers but files are JSON, an error is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stemforge import report
from stemforge.errors import InputError, StemforgeError, UsageError
from stemforge.ui.guard import Guard, Names
from stemforge.ui.jobs import Job, Jobs
from stemforge.ui.models import Models
from stemforge.ui.songs import VIEW, GoneError, Shelf, Song, clean, zipped
from stemforge.ui.work import TASKS

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_BYTES = 1_000_000_000
"""Of a file that is sent."""

_MOST_ASKED = 100_000
_HERE, _REPORT = Path(__file__).parent, Path(report.__file__).parent
_PAGES = {"": _HERE / "index.html", "ui.css": _HERE / "ui.css", "ui.js": _HERE / "ui.js",
          "page.css": _REPORT / "page.css", "page.js": _REPORT / "page.js"}  # fmt: skip


class TooLargeError(InputError):
    """More is sent than is taken."""


@dataclass(frozen=True)
class Studio:
    """What a server has: its songs, its checkpoints, its jobs, and how many bytes it takes of a song."""

    shelf: Shelf
    models: Models
    jobs: Jobs
    most_bytes: int = MOST_BYTES

    def begin(self, song: Song, asked: dict[str, Any]) -> Job:
        """Put a job for a song behind the others. Raises UsageError for a task that is not known."""
        task = asked.get("task")
        if not isinstance(task, str) or task not in TASKS:
            raise UsageError(f"task {task!r}: unknown. It is one of {', '.join(TASKS)}.")

        def work(tell: Callable[[float], None]) -> int:
            folder = song.folder / job.id
            try:
                title = TASKS[task](self.models, song, asked, folder, tell)
                return song.add(title, folder).number
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

        job = Job(song.id, f"{song.name}: {task}", work)
        return self.jobs.add(job)


class Pages:
    """The answers of a studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    @property
    def routes(self) -> list[Route]:
        """Address, method, answer."""
        one = "/api/songs/{song}"
        found: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("/", "GET", self.page),
            ("/api/studio", "GET", self.studio),
            ("/api/songs", "POST", self.sent),
            (one, "GET", self.song),
            (one, "DELETE", self.remove),
            (f"{one}/versions/{{number:int}}", "GET", self.view),
            (f"{one}/jobs", "POST", self.begin),
            ("/api/jobs/{job}", "GET", self.job),
            ("/api/jobs/{job}", "DELETE", self.stop),
            ("/songs/{song}/{number:int}/stems.zip", "GET", self.stems),
            ("/songs/{song}/{number:int}/{file}", "GET", self.file),
            ("/{page}", "GET", self.page),
        ]
        return [Route(path, answer, methods=[method]) for path, method, answer in found]

    async def page(self, request: Request) -> Response:
        """The page itself, its style and its scripts."""
        name = request.path_params.get("page", "")
        if name not in _PAGES:
            raise GoneError(f"'{name}': there is no such page.")
        return FileResponse(_PAGES[name])

    async def studio(self, request: Request) -> Response:
        """The checkpoints that can be chosen, and the songs that are here."""
        models = self._studio.models
        choices = [{"name": found.name, "stems": found.stems, "makes": found.makes, "vocals": found.vocals}
                   for found in models.choices.values()]  # fmt: skip
        songs = [_told(song) for song in self._studio.shelf.songs]
        return JSONResponse({"checkpoints": choices, "songs": songs, "most_bytes": self._studio.most_bytes})

    async def sent(self, request: Request) -> Response:
        """A song, its bytes as the body, its name as `?name=`: decoded and drawn."""
        name, shelf = clean(request.query_params.get("name", "")), self._studio.shelf
        with shelf.incoming(name) as path:
            with path.open("wb") as file:
                await _received(request, self._studio.most_bytes, f"'{name}'", file.write)
            song = await run_in_threadpool(shelf.add, path, name)
        return JSONResponse(_told(song), 201)

    async def song(self, request: Request) -> Response:
        """A song and its versions."""
        return JSONResponse(_told(self._song(request)))

    async def remove(self, request: Request) -> Response:
        """Forget a song, its files and its jobs."""
        song = self._song(request)
        for job in self._studio.jobs.of(song.id):
            job.unwanted = True
        await run_in_threadpool(self._studio.shelf.remove, song.id)
        return Response(status_code=204)

    async def view(self, request: Request) -> Response:
        """Pictures and players of a version, as HTML."""
        version = self._song(request).version(request.path_params["number"])
        return FileResponse(version.folder / VIEW, media_type="text/html; charset=utf-8")

    async def begin(self, request: Request) -> Response:
        """Begin a task: the body is a JSON object."""
        song, text = self._song(request), bytearray()
        await _received(request, _MOST_ASKED, "the request", text.extend)
        try:
            asked = json.loads(text)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            raise UsageError("the request: is not a JSON object. Load the page again.")
        return JSONResponse(self._state(self._studio.begin(song, asked)), 202)

    async def job(self, request: Request) -> Response:
        """How far a job is."""
        return JSONResponse(self._state(self._studio.jobs.job(request.path_params["job"])))

    async def stop(self, request: Request) -> Response:
        """Stop a job at its next step."""
        job = self._studio.jobs.job(request.path_params["job"])
        job.unwanted = True
        return JSONResponse(self._state(job))

    async def stems(self, request: Request) -> Response:
        """All stems of a version in a zip."""
        song = self._song(request)
        version = song.version(request.path_params["number"])
        if not version.stems:
            raise GoneError("the song is in one piece: there are no stems of it. Take it apart first.")
        name = f"{song.name} {version.number}.zip"
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name, errors='replace')}"}
        return StreamingResponse(zipped(song, version), media_type="application/zip", headers=headers)

    async def file(self, request: Request) -> Response:
        """A file of a version, or a part of it."""
        version = self._song(request).version(request.path_params["number"])
        return FileResponse(version.file(request.path_params["file"]))

    def _song(self, request: Request) -> Song:
        return self._studio.shelf.song(request.path_params["song"])

    def _state(self, job: Job) -> dict[str, Any]:
        return {"id": job.id, "state": job.state, "share": job.share, "error": job.error, "version": job.version,
                "ahead": self._studio.jobs.ahead(job)}  # fmt: skip


def application(studio: Studio, names: Names) -> Starlette:
    """The server of a studio, for any program that runs ASGI applications."""
    return Starlette(
        routes=Pages(studio).routes,
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={StemforgeError: _failed},
    )


async def _received(request: Request, most: int, what: str, take: Callable[[bytes], object]) -> None:
    """The body of a request, part by part. Raises TooLargeError for more than `most` bytes, before they are sent."""
    told = request.headers.get("content-length", "0")
    size = int(told) if told.isdecimal() else 0
    if size <= most:
        size = 0
        async for part in request.stream():
            if (size := size + len(part)) > most:
                break
            take(part)
    if size > most:
        raise TooLargeError(f"{what}: has more than {most / 1e6:g} MB. Send a smaller one, or a part of it.")


async def _failed(request: Request, error: Exception) -> Response:
    """The one line of an error."""
    kinds: dict[type[StemforgeError], int] = {GoneError: 404, TooLargeError: 413, UsageError: 400, InputError: 422}
    status = next((status for kind, status in kinds.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": str(error)}, status)


def _told(song: Song) -> dict[str, Any]:
    versions = [{"number": version.number, "title": version.title, "stems": version.stems,
                 "mix": version.outputs.get("mix")} for version in song.versions]  # fmt: skip
    return {"id": song.id, "name": song.name, "seconds": song.source.seconds, "notes": song.notes,
            "versions": versions}  # fmt: skip
