"""What the tests of `stemforge ui` share: a server in a thread, and requests as anybody may send them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

from stemforge.ui.app import MOST_BYTES, Studio
from stemforge.ui.guard import Names
from stemforge.ui.jobs import Jobs
from stemforge.ui.models import Models
from stemforge.ui.server import bound, server
from stemforge.ui.songs import Shelf
from tiny import tiny_network

RATE, SECONDS = 8000, 2.0
PATIENCE = 60.0


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    studio: Studio
    port: int
    folder: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"http://{self.host}/"

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of an answer; `host="…"`, `sec_fetch_site="…"` as headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The object of an answer that is not an error."""
        status, _, text = self.ask(method, path, body if isinstance(body, bytes | None) else json.dumps(body))
        assert status < 300, text
        return json.loads(text)

    def error(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and line of an answer that is an error."""
        status, _, text = self.ask(method, path, body, **headers)
        line = json.loads(text)["error"]
        assert status >= 400 and "\n" not in line
        return status, line

    def drop(self, path: Path) -> Any:
        """Send a song; what is told of it."""
        return self.json("POST", f"/api/songs?name={quote(path.name)}", path.read_bytes())

    def run(self, song: Any, **asked: Any) -> Any:
        """Do something to a song and wait for its end; what is told of the job."""
        job = self.json("POST", f"/api/songs/{song['id']}/jobs", asked)
        end = time.monotonic() + PATIENCE
        while job["state"] in ("waiting", "working"):
            assert time.monotonic() < end
            time.sleep(0.02)
            job = self.json("GET", f"/api/jobs/{job['id']}")
        return job


@contextmanager
def served(folder: Path, models: Models, most_bytes: int = MOST_BYTES) -> Iterator[Served]:
    """A server on a free port, with its songs below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with bound("127.0.0.1", 0) as listening, Jobs() as jobs:
        port = listening.getsockname()[1]
        studio = Studio(Shelf(folder), models, jobs, most_bytes)
        running = server(studio, Names("127.0.0.1", port))
        thread = threading.Thread(target=lambda: running.run(sockets=[listening]))
        thread.start()
        try:
            yield Served(studio, port, folder)
        finally:
            running.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


def checkpoint(folder: Path) -> Path:
    """A network of a few thousand parameters that separates and makes stems."""
    torch.manual_seed(0)
    network = tiny_network()
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "forge", **network.to_config()}))
    return folder


def song(path: Path, seconds: float = SECONDS, channels: int = 2) -> Path:
    """Tones and noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(size=len(time))
    tones = 0.2 * np.sin(2 * np.pi * 110 * time) + 0.1 * np.sin(2 * np.pi * 880 * time) + 0.02 * noise
    soundfile.write(path, np.stack([tones, 0.5 * tones][:channels], axis=1), RATE)
    return path
