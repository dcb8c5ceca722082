"""Workers on Ray: actors on this machine or on a cluster, each with a processor, or a share of a GPU."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Hashable
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any

from stemforge.errors import DeviceError, StemforgeError
from stemforge.tasks.spread import LostError

_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning about a change that is to come
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what it prints to stdout of its own accord; the logs of Ray have it too
    "RAY_USAGE_STATS_ENABLED": "0",
}


class RayCrew:
    """Context manager; a `Crew` of actors of one class, made of `arguments`.

    The class has `begin()` and `work(task, lost)`; what either returns is the answer, a StemforgeError is raised here.

    Args:
        address: of the cluster; None for RAY_ADDRESS, else the one that runs on this machine, else one of our own.
        device: as -d names it; auto and cuda take GPUs where the cluster has some.
        workers: how many are wanted; None for one a GPU, or one a processor where there is no GPU.

    Raises:
        DeviceError: no cluster at the address, or no GPU where cuda is asked for.
    """

    def __init__(
        self, kind: type, arguments: tuple[Any, ...], *, address: str | None, device: str, workers: int | None
    ) -> None:
        self._kind, self._arguments = kind, arguments
        self._address, self._device, self._wanted = address, device, workers

    def __enter__(self) -> RayCrew:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        self._ray = ray = import_module("ray")
        self._own = not ray.is_initialized()
        if self._own:
            self._connect()
        there = ray.cluster_resources()
        gpus = there.get("GPU", 0) if self._device in ("auto", "cuda") else 0
        if self._device == "cuda" and not gpus:
            self.__exit__(None, None, None)
            raise DeviceError("device 'cuda': the Ray cluster has no GPU. Use -d cpu or -d auto.")
        self.workers = self._wanted or int(gpus or there.get("CPU", 1)) or 1
        share = 1 / math.ceil(self.workers / gpus) if gpus else 0
        options = {"num_cpus": 1, "num_gpus": share, "max_restarts": 0, "max_task_retries": 0}
        self._actor = ray.remote(**options)(self._kind)
        self.room = f"{there.get('CPU', 0):g} CPUs, {gpus:g} GPUs"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            self._ray.shutdown()

    def _connect(self) -> None:
        """Join the cluster, or start one; Ray's own handler of SIGTERM is not wanted."""
        kept = signal.getsignal(signal.SIGTERM)
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            self._ray.init(address=self._address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            why = (str(error).splitlines() or [""])[0].rstrip(".")
            at = f"--address {self._address}" if self._address else "--engine ray"
            raise DeviceError(f"{at}: no Ray there: {why}. Start one with `ray start --head`.") from error
        finally:
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, kept)

    def hire(self) -> tuple[Any, Hashable]:
        """See `Crew`."""
        worker = self._actor.remote(*self._arguments)
        return worker, worker.begin.remote()

    def give(self, worker: Any, task: Any, lost: int) -> Hashable:  # noqa: ANN401
        """See `Crew`."""
        key: Hashable = worker.work.remote(task, lost)
        return key

    def wait(self, keys: list[Hashable]) -> Hashable:
        """See `Crew`."""
        try:
            done, _ = self._ray.wait(keys, num_returns=1)
        except SystemError as error:  # how Ray passes on what a signal has raised
            raise error.__cause__ or error from None
        first: Hashable = done[0]
        return first

    def answer(self, key: Hashable) -> Any:  # noqa: ANN401
        """See `Crew`."""
        known = self._ray.exceptions
        try:
            found = self._ray.get(key)
        except known.RayTaskError as error:
            raise error.cause or error from None
        except known.RayError as error:
            why = (str(error).splitlines() or [""])[0].rstrip(". ")
            raise LostError(f"a worker died: {why}. See the logs of Ray.") from None
        if isinstance(found, StemforgeError):
            raise found
        return found

    def dismiss(self, worker: Any) -> None:  # noqa: ANN401
        """See `Crew`."""
        self._ray.kill(worker)
