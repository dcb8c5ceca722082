"""Colours of stems, in a space where equal steps look equal (OKLCH, Ottosson 2020)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

_HUES = {"bass": 262.0, "drums": 38.0, "guitar": 142.0, "piano": 312.0, "other": 205.0, "vocals": 5.0, "synth": 285.0}
_GREY = frozenset(("original", "mixture", "before", "mix", "residual", "rest"))
_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
)
_TO_RGB = np.array([[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
                    [-0.0041960863, -0.7034186147, 1.707614701]])  # fmt: skip


@dataclass(frozen=True)
class Colour:
    """Of a stem: its hue in degrees, its share of the strongest colour that is used (0 is grey)."""

    hue: float
    strength: float = 1.0

    @property
    def on_light(self) -> str:
        """For a light page, as #rrggbb."""
        return _written(srgb(0.56, 0.15 * self.strength, self.hue))

    @property
    def on_dark(self) -> str:
        """For a dark page, as #rrggbb."""
        return _written(srgb(0.74, 0.13 * self.strength, self.hue))

    def ramp(self, steps: int = 256) -> np.ndarray:
        """From nearly black to nearly white through the hue, lightness in equal steps: (steps, 3), uint8."""
        share = np.linspace(0, 1, steps)
        chroma = self.strength * 0.16 * np.sin(np.pi * share**0.8)
        return np.asarray(np.rint(255 * srgb(0.16 + 0.81 * share, chroma, self.hue)), dtype=np.uint8)


def colour_of(name: str) -> Colour:
    """That of a stem; a name that is not known has always the same one, a mixture is grey."""
    name = name.lower()
    if name in _GREY:
        return Colour(260.0, 0.12)
    return Colour(_HUES.get(name, float(zlib.crc32(name.encode("utf-8", "surrogatepass")) % 360)))


def srgb(lightness: np.ndarray | float, chroma: np.ndarray | float, hue: np.ndarray | float) -> np.ndarray:
    """OKLCH (lightness 0 to 1, hue in degrees) as sRGB (..., 3) from 0 to 1, cut at the edge of what it holds."""
    angle = np.radians(hue)
    lab = np.stack(np.broadcast_arrays(lightness, chroma * np.cos(angle), chroma * np.sin(angle)), axis=-1)
    linear = np.clip((lab @ _TO_LMS.T) ** 3 @ _TO_RGB.T, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def _written(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour)
