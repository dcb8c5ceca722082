"""Separators of flows: several checkpoints, one a stem, fitted together, perhaps begun with what another one found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemforge import checkpoints
from stemforge.checkpoints import Checkpoint
from stemforge.devices import LOADING, choose, memory_errors
from stemforge.errors import UsageError

if TYPE_CHECKING:
    import torch

    from stemforge.models.glow import Flows
    from stemforge.separators.flow_prior import FlowSeparator, Guess, Prior


def build(
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    *,
    prior: Prior,
    segment: float | None = None,
    overlap: float = 0.25,
    seed: int = 0,
    precision: str = "auto",
) -> FlowSeparator:
    """The separator of a checkpoint of flows and of further ones; all are fetched and verified first.

    Args:
        checkpoint: from `checkpoints.find`.
        device: auto, cpu, cuda, cuda:N or mps.
        prior: flows by the name of their stem, how they are fitted, and the checkpoint that guesses first.
        segment, overlap, seed, precision: see `FlowSeparator`.

    Raises:
        UsageError: a checkpoint is unknown or has no flow, or they do not go together.
        CheckpointError: one cannot be had, or is not what its sha256 says.
        DeviceError: the device is not there.
    """
    from stemforge.separators.flow_prior import FlowSeparator

    target = choose(str(device))
    with memory_errors(target, LOADING):
        own, more = _flows(checkpoint), {name: _flow(name, place) for name, place in prior["flows"].items()}
        kept = [own.only(name) for name in own.names if name not in more]
        flows = [each.to(target) for each in (*kept, *more.values())]
    warm = prior["warm"]
    names = [name for each in flows for name in each.names]
    guess = None if warm is None else _guess(warm, names, flows[0].rate, target)
    return FlowSeparator(
        flows, prior["fit"], guess=guess, segment=segment, overlap=overlap, seed=seed, precision=precision,
        device=target,
    )  # fmt: skip


def joined(checkpoint: Checkpoint, prior: Prior | None) -> Prior | None:
    """The prior with the flows of all checkpoints of the tables that say `joins = "<name of this one>"`.

    A flow that is given for a stem stays. None where there is neither a prior nor a flow that joins.
    """
    more = {
        stem: other.name
        for other in checkpoints.available().values()
        if other.table.get("joins") == checkpoint.name
        for stem in other.stems or ()
    }
    if not more:
        return prior
    from stemforge.separators.flow_prior import Fit

    prior = {"flows": {}, "fit": Fit(), "warm": None} if prior is None else prior
    return {**prior, "flows": {**more, **prior["flows"]}}


def _flows(checkpoint: Checkpoint) -> Flows:
    """The network of a checkpoint. UsageError when it is of another kind."""
    from stemforge.models.glow import Flows

    network = checkpoints.network_of(checkpoint)
    if not isinstance(network, Flows):
        made = "Give -n or --flow one that stemforge train flow made."
        raise UsageError(f"checkpoint '{checkpoint.name}': has no flows. {made}")
    return network


def _flow(name: str, place: str) -> Flows:
    """The flow of one stem in the checkpoint at `place`, under that name."""
    found = _flows(checkpoints.find(place))
    try:
        return found.only(name)
    except KeyError:
        raise UsageError(f"--flow {name}={place}: that one has {', '.join(found.names)}. Name one of them.") from None


def _guess(warm: str, names: list[str], rate: int, device: torch.device) -> Guess:
    """What the checkpoint `warm` takes a window for; stems that it does not know begin in silence."""
    import torch

    folds = checkpoints.find(warm).folds
    separator = checkpoints.load(warm, device, whole=any(name in folds for name in names))
    if separator.rate != rate:
        raise UsageError(f"--warm {warm}: hears {separator.rate} Hz, the flows {rate} Hz. Name another checkpoint.")

    def guess(mixture: torch.Tensor) -> torch.Tensor:
        both = mixture.expand(max(2, len(mixture)), -1)
        found = torch.cat(list(separator.stream([both])), dim=-1)[:, : len(mixture)]
        known = dict(zip(separator.names, found, strict=True))
        return torch.stack([known.get(name, torch.zeros_like(mixture)) for name in names])

    return guess
