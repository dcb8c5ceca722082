"""The published implementation, audio-diffusion-pytorch 0.0.43, and files shaped like the published checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from audio_diffusion_pytorch import AudioDiffusionModel, LogNormalDistribution

from stemforge.models.msdm import MsdmConfig

TINY = {
    "width": 64,
    "multipliers": (1, 2, 1),
    "factors": (3, 2),
    "num_blocks": (1, 2),
    "attentions": (False, True),
    "heads": 4,
    "head_features": 8,
    "patch": 8,
    "groups": 4,
}
NAMES = ("bass", "drums", "guitar", "piano")


def settings(config: MsdmConfig, stems: int) -> dict[str, Any]:
    """The arguments of the published model, in its words."""
    return {
        "in_channels": stems,
        "channels": config.width,
        "patch_factor": config.patch,
        "patch_blocks": 1,
        "resnet_groups": config.groups,
        "kernel_multiplier_downsample": 2,
        "kernel_sizes_init": [1, 3, 7],
        "multipliers": list(config.multipliers),
        "factors": list(config.factors),
        "num_blocks": list(config.num_blocks),
        "attentions": list(config.attentions),
        "attention_heads": config.heads,
        "attention_features": config.head_features,
        "attention_multiplier": config.ff_multiplier,
        "use_nearest_upsample": False,
        "use_skip_scale": True,
        "use_attention_bottleneck": True,
        "diffusion_sigma_distribution": LogNormalDistribution(-3.0, 1.0),
        "diffusion_sigma_data": config.sigma_data,
        "diffusion_dynamic_threshold": 0.0,
    }


def model(config: MsdmConfig, stems: int | None = None) -> AudioDiffusionModel:
    """Freshly drawn weights; gains and biases are not left at one and zero, so that they count."""
    made = AudioDiffusionModel(**settings(config, stems or len(config.names)))
    with torch.no_grad():
        for weight in made.unet.parameters():
            if weight.squeeze().dim() <= 1 and weight.device.type != "meta":
                weight += 0.2 * torch.randn_like(weight)
    return made


class MultiSourceDataset:
    """What the published training keeps of its data."""

    def __init__(self) -> None:
        self.tracks, self.root = ["Track00001"], Path("data")


def lightning(path: Path, official: AudioDiffusionModel, config: MsdmConfig, **changes: Any) -> Path:
    """Save a model as Lightning 1.7.7 did: the U-Net twice, the settings with an object, the data with theirs."""
    stems = official.unet.to_in.module_list[0].block.block1.project.weight.shape[1]
    content = {
        "epoch": 419,
        "global_step": 1000,
        "pytorch-lightning_version": "1.7.7",
        "state_dict": type(official.state_dict())((f"model.{k}", v) for k, v in official.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 420}}}},
        "hparams_name": "kwargs",
        "hyper_parameters": {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.99, **settings(config, stems)},
        "datamodule_hparams_name": "kwargs",
        "datamodule_hyper_parameters": {"train_dataset": MultiSourceDataset(), "batch_size": 8},
    }
    data = ModuleType("main.data")
    data.MultiSourceDataset = MultiSourceDataset  # type: ignore[attr-defined]
    MultiSourceDataset.__module__ = "main.data"
    with patch.dict(sys.modules, {"main": ModuleType("main"), "main.data": data}):
        torch.save({**content, **changes}, path)
    return path
