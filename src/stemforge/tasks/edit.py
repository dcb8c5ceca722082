"""Parts of stems made anew, so that they go with what stands around them and with the other stems.

Three methods. `conditioning`: the network is told which samples are clean (trained for it). `guidance`: any network;
what is known is shown at the noise level of the rest, and the L1 distance of the clean estimate to it pulls the new
part through the network (Levy et al. 2023, https://arxiv.org/abs/2311.00613). `both`: told, and pulled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stemforge.audio.windows import eased
from stemforge.devices import memory_errors
from stemforge.errors import UsageError
from stemforge.inference.given import Observed
from stemforge.inference.guidance import GUIDED, Guide, Loss, guided, reconstruction
from stemforge.inference.noise import noise_of, state_type
from stemforge.inference.operators import Kept
from stemforge.inference.samplers import OnStep, quiet
from stemforge.inference.settings import Sampling, default
from stemforge.inference.wrappers import conditioned, denoiser
from stemforge.tasks.generate import EASE, check_finite
from stemforge.tasks.impute import windows_of
from stemforge.tasks.levels import gain_of
from stemforge.tasks.sketched import Sketcher
from stemforge.types import Denoise, Stems

if TYPE_CHECKING:
    from stemforge.models.registry import Joint

METHODS = ("conditioning", "guidance", "both")
STRENGTH = 0.85
"""The paper's k for regenerate and transition."""
STEPS = {True: 1e-4, False: 3e-3}
"""xi by `conditional`: the paper's for white noise of level 1, and for networks whose noise has the level of music."""
WISH_STEP = 0.1
"""xi of a normalised step towards a wish: the share of the noise that it may change."""


@dataclass(frozen=True)
class Way:
    """How the new part is made.

    sampling: sampler, steps, noise levels. method: of METHODS. strength: 0 to 1, how far from the original it may go;
    1 knows nothing of it. step: xi of guidance. normalised: see `Guide`. wish: of the new sound, as a loss of the stems
    (batch, stem, channel, time), whose step is always normalised; it takes the place of the reconstruction loss.
    segment: seconds of a window; None for what suits the network. sketcher: draws what would begin with noise alone,
    with conditioning and without a wish.
    """

    sampling: Sampling
    method: str = "conditioning"
    strength: float = 1.0
    step: float = STEPS[True]
    normalised: bool = False
    wish: Loss | None = None
    segment: float | None = None
    sketcher: Sketcher | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be."""
        if self.method not in METHODS:
            raise UsageError(f"method '{self.method}': unknown. Give one of {', '.join(METHODS)}.")
        self.sampling.begun(self.strength)
        if not 0 <= self.step < float("inf"):
            raise UsageError(f"guidance {self.step:g}: must be at least 0. Leave it out for the default.")

    @property
    def guides(self) -> bool:
        """Whether gradients go through the network."""
        return self.method != "conditioning" or self.wish is not None

    @property
    def drawer(self) -> Sketcher | None:
        """What draws all that it begins with, where that would be noise alone."""
        return self.sketcher if self.strength == 1 and not self.guides else None

    @property
    def schedule(self) -> Sampling:
        """The sampling from the level at which it starts."""
        return self.sampling.begun(self.strength) if self.drawer is None else self.drawer.refining

    def guide(self, stems: Tensor, known: Tensor) -> Guide | None:
        """The pull for a window of stems of which some samples are known."""
        if self.wish is not None:
            return Guide(self.wish, self.step, normalised=True, free=~known)
        if self.method == "conditioning":
            return None
        kept = Kept(known)
        return Guide(reconstruction(kept, kept.measure(stems)), self.step, self.normalised, free=~known)


def way_for(
    network: Joint,
    *,
    method: str = "auto",
    strength: float = 1.0,
    step: float | None = None,
    normalised: bool = False,
    wish: Loss | None = None,
    segment: float | None = None,
    sketcher: Sketcher | None = None,
) -> Way:
    """The way with the defaults of a network; auto is conditioning where it can be told what is known.

    Raises:
        UsageError: the network cannot be told, or a value is out of range.
    """
    if method == "auto":
        method = "conditioning" if network.conditional else "guidance"
    if method in ("conditioning", "both") and not network.conditional:
        raise UsageError(f"method {method}: this network cannot be told what is known. Give --method guidance.")
    task = "wished" if wish is not None else "impute" if method == "conditioning" else "guided"
    sampling = default(task, network.conditional)
    xi = (WISH_STEP if wish is not None or normalised else STEPS[network.conditional]) if step is None else step
    return Way(sampling, method, strength, xi, normalised, wish, segment, sketcher)


def edit(
    network: Joint,
    stems: Stems,
    free: Tensor,
    way: Way,
    *,
    names: tuple[str, ...],
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: OnStep = quiet,
) -> Stems:
    """The named stems with their free samples made anew, the others as they are, (stem, channel, time).

    Args:
        network: joint denoiser on `device`.
        stems: all that is heard, at the rate and with the channels of the network. Stems that are not named stand.
        free: bool (time,), the samples that are made anew.
        way: see `Way`.
        names: of the stems that are edited, all of them among `stems`.
        seed: of the noise.
        device: where the network is.
        on_step: called with (steps done, steps in all), over all windows.

    A span longer than a window is made window by window; the beginning of each is the end of the one before.

    Raises:
        UsageError: an unknown stem.
        DeviceError: the device is out of memory.
        StemforgeError: the network gave samples that are not finite.
    """
    for name in (*stems.names, *names):
        if name not in network.names:
            raise UsageError(f"stem '{name}': this checkpoint has {', '.join(network.names)}.")
    if (drawer := way.drawer) is not None:
        stems = drawer.filled(stems, free, names, seed=seed, on_step=on_step)
        way = replace(way, strength=drawer.strength, sampling=drawer.sound)
    rows = [network.names.index(name) for name in stems.names]
    full = torch.zeros(1, len(network.names), network.channels, stems.samples.shape[-1], device=device)
    full[0, rows] = stems.samples.to(full)
    known = torch.zeros_like(full[:, :, :1], dtype=torch.bool)
    known[0, rows] = True
    edited = [network.names.index(name) for name in names]
    known[0, edited] = ~free.to(known.device)
    gain = gain_of(stems)
    heard = torch.tensor([name in stems.names for name in network.names])
    made = _made(network, full * gain, known, heard, edited, way, seed, on_step) / gain
    samples = torch.where(known, full, made)[0, edited].float().cpu()
    check_finite(samples, seed)
    return Stems(names, samples, stems.rate)


def _made(
    network: Joint,
    full: Tensor,
    known: Tensor,
    heard: Tensor,
    edited: list[int],
    way: Way,
    seed: int,
    on_step: OnStep,
) -> Tensor:
    """All stems (batch, stem, channel, time), their free parts made anew window by window."""
    starts, length = windows_of(network, full.shape[-1], way.segment)
    denoise = denoiser(network, hidden=~heard if network.conditional and not bool(heard.all()) else None)
    done, out = known.clone(), full.clone()
    for index, start in enumerate(starts):
        cut = slice(start, start + length)
        clear = done[..., cut].clone()

        def step(at: int, steps: int, index: int = index) -> None:
            on_step(index * steps + at, len(starts) * steps)

        if bool(clear[:, edited].all()):
            for at in range(way.schedule.steps):
                step(at + 1, way.schedule.steps)
        else:
            stems = out[..., cut].to(state_type(out.device))
            with memory_errors(out.device):
                window = _window(network, denoise, stems, clear, way, seed * 1_000_003 + index, step)
            out[..., cut] = eased(window, clear, round(EASE * network.rate)).to(out)
            done[..., cut] = True
    return out


def _window(
    network: Joint, denoise: Denoise, stems: Tensor, known: Tensor, way: Way, seed: int, on_step: OnStep
) -> Tensor:
    """One window: from noise, or the original with noise on it, to stems of which the known samples are as given."""
    noise, told, sampling = noise_of(network, seed), way.method != "guidance", way.schedule
    given = Observed(stems, known, noised=not told)
    bound = conditioned(denoise, known) if told else denoise
    x = noise(stems) * sampling.sigma_max
    if way.strength < 1:
        x = x + stems
    guide = way.guide(stems, known)
    if guide is None:
        return sampling.run(bound, x, given, noise, on_step)
    if sampling.sampler in GUIDED:
        sigmas = sampling.sigmas().to(x)
        return GUIDED[sampling.sampler](bound, x, sigmas, guide, given, noise=noise, on_step=on_step).detach()
    return sampling.run(guided(bound, guide), x, given, noise, on_step)
