"""How to sample: which sampler, how many steps, from which noise level to which; and what each task does by default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from stemforge.errors import UsageError
from stemforge.inference.given import Given, Noise
from stemforge.inference.samplers import SAMPLERS, OnStep, Sampler, euler
from stemforge.inference.schedules import SCHEDULES, Schedule, karras
from stemforge.types import Denoise

LARGEST_SIGMA = 1000.0


@dataclass(frozen=True)
class Sampling:
    """Settings of one sampling run.

    sampler: of SAMPLERS; schedule: of SCHEDULES, with rho for karras; steps: at least 1; sigma_min, sigma_max: ends of
    the schedule in units of the model's noise; churn, resamples: of euler (MSDM's S_churn and correction steps).
    """

    sampler: str = "dpmpp-2m"
    schedule: str = "karras"
    steps: int = 24
    sigma_min: float = 0.02
    sigma_max: float = 40.0
    rho: float = 7.0
    churn: float = 0.0
    resamples: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError for what no sampler can do."""
        if self.sampler not in SAMPLERS:
            raise UsageError(f"sampler '{self.sampler}': unknown. Give one of {', '.join(SAMPLERS)}.")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule '{self.schedule}': unknown. Give one of {', '.join(SCHEDULES)}.")
        if self.resamples < 1 or self.churn < 0:
            raise UsageError(
                f"churn {self.churn:g}, resamples {self.resamples}: churn is at least 0, resamples at least 1."
            )
        if self.sampler != "euler" and (self.churn or self.resamples != 1):
            raise UsageError(f"churn and resamples with sampler '{self.sampler}': only euler has them. Leave them out.")
        if self.sigma_max > LARGEST_SIGMA:
            raise UsageError(
                f"sigma-max {self.sigma_max:g}: more than {LARGEST_SIGMA:g}. Leave it out for the default."
            )
        self.sigmas()

    def sigmas(self) -> Tensor:
        """The noise levels, (steps + 1,), float64, ending in 0."""
        schedule: Schedule = partial(karras, rho=self.rho) if self.schedule == "karras" else SCHEDULES[self.schedule]
        return schedule(self.steps, self.sigma_min, self.sigma_max)

    @property
    def evaluations(self) -> int:
        """How often the denoiser is called."""
        return self.steps * self.resamples * SAMPLERS[self.sampler].evaluations - (self.sampler == "heun")

    def changed(self, **values: object) -> Sampling:
        """With other values; None keeps the value, and a sampler without churn drops it. Raises UsageError."""
        given = {name: value for name, value in values.items() if value is not None}
        if given.get("sampler", self.sampler) != "euler":
            given = {"churn": 0.0, "resamples": 1, **given}
        return replace(self, **given)  # type: ignore[arg-type]

    def begun(self, strength: float) -> Sampling:
        """From something instead of noise alone: strength 0 to 1, how far from it the result may go; 1 is noise alone.

        The start sample k z + (1 - k) x of Levy et al. 2023 is, up to scale, x with noise of the level k / (1 - k).
        """
        if not 0 < strength <= 1:
            raise UsageError(f"strength {strength:g}: must be more than 0 (keep) and at most 1 (all new).")
        if strength == 1:
            return self
        level = min(strength / (1 - strength), self.sigma_max)
        return self.changed(sigma_max=level, sigma_min=min(self.sigma_min, level / 2))

    def run(self, denoise: Denoise, x: Tensor, given: Given, noise: Noise, on_step: OnStep) -> Tensor:
        """From noise x at sigma_max to stems, on the device and in the precision of x."""
        sampler: Sampler = SAMPLERS[self.sampler].run
        if self.sampler == "euler":
            sampler = partial(euler, churn=self.churn, resamples=self.resamples)
        with torch.no_grad():
            return sampler(denoise, x, self.sigmas().to(x), given, noise=noise, on_step=on_step)


FORGE = {
    "generate": Sampling(),
    "impute": Sampling(),
    "sketched": Sampling(steps=8),
    "replace": Sampling("euler", steps=48, churn=10.0, resamples=2),
    "guided": Sampling("ddim", "cosine", steps=50),
    "wished": Sampling("ddim", "cosine", steps=25),
    "dirac": Sampling("euler", steps=150, sigma_min=1e-3, sigma_max=1.0, churn=20.0, resamples=2),
    "gaussian": Sampling("euler", steps=150, sigma_min=1e-3, sigma_max=1.0, churn=40.0, resamples=2),
    "independent": Sampling("euler", steps=150, sigma_min=1e-3, sigma_max=1.0, churn=40.0, resamples=2),
}
"""For networks of our own, which know conditions; noise of level 1 has the mean level of music over all frequencies."""

OFFICIAL = {
    "generate": Sampling("euler", steps=150, sigma_min=1e-4, sigma_max=20.0, churn=20.0),
    "impute": Sampling("euler", steps=150, sigma_min=1e-4, sigma_max=20.0, churn=20.0, resamples=2),
    "sketched": Sampling("euler", steps=150, sigma_min=1e-4, sigma_max=20.0, churn=20.0),
    "replace": Sampling("euler", steps=150, sigma_min=1e-4, sigma_max=20.0, churn=20.0, resamples=2),
    "guided": Sampling("ddim", "cosine", steps=50, sigma_min=1e-3, sigma_max=20.0),
    "wished": Sampling("ddim", "cosine", steps=50, sigma_min=1e-3, sigma_max=20.0),
    "dirac": Sampling("euler", steps=150, sigma_min=1e-4, sigma_max=1.0, churn=20.0, resamples=2),
    "gaussian": Sampling("euler", steps=150, sigma_min=1e-4, sigma_max=1.0, churn=40.0, resamples=2),
    "independent": Sampling("euler", steps=150, sigma_min=1e-4, sigma_max=1.0, churn=40.0, resamples=2),
}
"""The published settings of MSDM and ISDM: https://github.com/gladia-research-group/multi-source-diffusion-models."""


def default(task: str, conditional: bool) -> Sampling:
    """The settings of a task for networks that can be told what is known (`conditional`), or the published ones."""
    return (FORGE if conditional else OFFICIAL)[task]
