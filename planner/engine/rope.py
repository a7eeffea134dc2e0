"""Rotary positions: frequencies of the plain, linear, llama3 and yarn variants, and the rotation itself.

Vectors are rotated in halves (element i with i + dim/2), as in HF checkpoints; weights stored for interleaved
pairs (GGUF llama, DeepSeek) are permuted once at load. arXiv 2104.09864, 2309.00071 (yarn), and Meta's
Llama 3.1 release for `llama3`. Knows nothing of layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.formats.arrays import Floats

KINDS = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class Rope:
    """One variant. `factors` are divisors per frequency (GGUF's rope_freqs tensor); they replace llama3's rule."""

    dim: int
    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    original_max_position: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    factors: tuple[float, ...] = ()

    def frequencies(self) -> Floats:
        """Radians per position, (dim/2,)."""
        exponent = np.arange(0, self.dim, 2, dtype=np.float32) / np.float32(self.dim)
        plain: Floats = np.asarray(1.0 / np.float32(self.theta) ** exponent, np.float32)
        if self.factors:
            return np.asarray(plain / np.asarray(self.factors), np.float32)
        if self.kind == "linear":
            return np.asarray(plain / self.factor, np.float32)
        if self.kind == "llama3":
            return self._llama3(plain)
        return self._yarn(plain) if self.kind == "yarn" else plain

    @property
    def magnitude(self) -> float:
        """What cosine and sine are multiplied by (yarn's attention temperature), else 1."""
        if self.kind != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return yarn_mscale(self.factor, self.mscale) / yarn_mscale(self.factor, self.mscale_all_dim)
        return yarn_mscale(self.factor, 1.0)

    def _llama3(self, plain: Floats) -> Floats:
        length = self.original_max_position
        turns = length * plain / (2 * math.pi)
        smooth = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        smooth = np.clip(smooth, 0.0, 1.0)
        return np.asarray((1 - smooth) * plain / self.factor + smooth * plain, np.float32)

    def _yarn(self, plain: Floats) -> Floats:
        def index_of(turns: float) -> float:
            ratio = self.original_max_position / (turns * 2 * math.pi)
            return self.dim * math.log(ratio) / (2 * math.log(self.theta))

        low = max(math.floor(index_of(self.beta_fast)), 0)
        high = min(math.ceil(index_of(self.beta_slow)), self.dim - 1)
        ramp = np.clip((np.arange(self.dim // 2) - low) / max(high - low, 0.001), 0, 1)
        return np.asarray(plain / self.factor * ramp + plain * (1 - ramp), np.float32)


def yarn_mscale(factor: float, mscale: float) -> float:
    """0.1·mscale·ln(factor) + 1, and 1 where the context is not extended."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def tables(rope: Rope, positions: np.ndarray) -> tuple[Floats, Floats]:
    """Cosine and sine at `positions` (tokens,), each (tokens, 1, dim/2), to be broadcast over heads."""
    angles = positions.astype(np.float32)[:, None, None] * rope.frequencies()
    magnitude = np.float32(rope.magnitude)
    return np.cos(angles) * magnitude, np.sin(angles) * magnitude


def rotate(x: Floats, table: tuple[Floats, Floats]) -> Floats:
    """`x` (tokens, heads, dim) rotated by the tables."""
    cos, sin = table
    half = x.shape[-1] // 2
    out = np.empty_like(x)
    first, second = x[..., :half], x[..., half:]
    out[..., :half] = first * cos - second * sin
    out[..., half:] = second * cos + first * sin
    return out


def halves_from_pairs(dim: int) -> np.ndarray:
    """Row order that turns interleaved pairs (0,1)(2,3)… into halves."""
    return np.concatenate([np.arange(0, dim, 2), np.arange(1, dim, 2)])
