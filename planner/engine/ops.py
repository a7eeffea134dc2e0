"""The few functions a transformer is made of, on float32 arrays. No overflow for any finite input."""

from __future__ import annotations

import numpy as np

from planner.formats.arrays import Floats


def rms_norm(x: Floats, weight: Floats, eps: float) -> Floats:
    """`x` (…, d) over its root mean square, times `weight` (d,). arXiv 1910.07467."""
    mean_square = np.einsum("...d,...d->...", x, x)[..., None] / np.float32(x.shape[-1])
    return x * (weight / np.sqrt(mean_square + np.float32(eps)))


def silu(x: Floats) -> Floats:
    """x · sigmoid(x); the sigmoid by tanh, which cannot overflow."""
    return x * sigmoid(x)


def sigmoid(x: Floats) -> Floats:
    half = np.float32(0.5)
    return half * np.tanh(half * x) + half


def gelu_tanh(x: Floats) -> Floats:
    """The tanh form of GELU. arXiv 1606.08415."""
    inner = np.float32(0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(inner))


def softmax(x: Floats) -> Floats:
    """Over the last axis, in place. At least one entry of every row is finite."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x


def softcap(x: Floats, cap: float | None) -> Floats:
    """cap · tanh(x / cap); `x` itself without a cap."""
    return x if cap is None else np.float32(cap) * np.tanh(x / np.float32(cap))


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    """`x` (rows, in) times `weight` (out, in) transposed, plus `bias`."""
    out: Floats = x @ weight.T
    return out if bias is None else out + bias


ACTIVATIONS = {"silu": silu, "gelu_tanh": gelu_tanh}
