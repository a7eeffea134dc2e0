"""The few functions a transformer is made of, on float32 arrays. No overflow for any finite input."""

from __future__ import annotations

import numpy as np

from planner.formats.arrays import Floats


def rms_norm(x: Floats, weight: Floats, eps: float) -> Floats:
    """`x` (…, d) over its root mean square, times `weight` (d,). arXiv 1910.07467."""
    mean_square = np.einsum("...d,...d->...", x, x)[..., None] / np.float32(x.shape[-1])
    return np.asarray(x * (weight / np.sqrt(mean_square + np.float32(eps))), np.float32)


def silu(x: Floats) -> Floats:
    """x · sigmoid(x)."""
    out = sigmoid(x)
    out *= x
    return out


def sigmoid(x: Floats) -> Floats:
    """By tanh, which cannot overflow."""
    out: Floats = x * np.float32(0.5)
    np.tanh(out, out=out)
    out *= np.float32(0.5)
    out += np.float32(0.5)
    return out


def gelu_tanh(x: Floats) -> Floats:
    """The tanh form of GELU. arXiv 1606.08415."""
    inner = np.float32(0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(np.float32(0.5) * x * (1 + np.tanh(inner)), np.float32)


def exponentials(x: Floats) -> Floats:
    """Softmax over the last axis before it is divided, in place; returns the divisors (…, 1).

    At least one entry of every row is finite.
    """
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    return np.asarray(x.sum(axis=-1, keepdims=True), np.float32)


def softmax(x: Floats) -> Floats:
    """Over the last axis, in place."""
    x /= exponentials(x)
    return x


def softcap(x: Floats, cap: float | None) -> Floats:
    """cap · tanh(x / cap); `x` itself without a cap."""
    return x if cap is None else np.asarray(np.float32(cap) * np.tanh(x / np.float32(cap)), np.float32)


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    """`x` (rows, in) times `weight` (in, out), plus `bias`."""
    out: Floats = x @ weight
    return out if bias is None else out + bias


def by_input(*weights: Floats) -> Floats:
    """Checkpoint matrices (out, in) side by side as one (in, sum of out): the layout that BLAS reads fastest for
    one row (measured: 2.5 times faster for a 32,000-token head).
    """
    out = np.empty((weights[0].shape[1], sum(len(w) for w in weights)), np.float32)
    np.concatenate([w.T for w in weights], axis=1, out=out)
    return out


ACTIVATIONS = {"silu": silu, "gelu_tanh": gelu_tanh}
