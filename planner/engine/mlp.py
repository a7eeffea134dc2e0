"""The second half of a layer on one rank: the gated MLP, and routed experts with what their families add.

Every token goes to its `per_token` best experts; the loop runs over experts that were hit, never over tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planner.engine.config import Layer, ModelConfig, Moe
from planner.engine.layout import expert_names, moe_prefix, shared_name
from planner.engine.ops import ACTIVATIONS, by_input, linear, sigmoid, softmax
from planner.formats.arrays import Floats


class GatedMlp:
    """down(activation(gate(x)) · up(x))."""

    def __init__(
        self, weights: Mapping[str, Floats], prefix: str, activation: str, names: Mapping[str, str] | None = None
    ):
        named = {n: f"{prefix}{(names or {}).get(n, n)}" for n in ("gate_proj", "up_proj", "down_proj")}
        self.activation = ACTIVATIONS[activation]
        self.gate_up = by_input(*(weights[f"{named[n]}.weight"] for n in ("gate_proj", "up_proj")))
        biases = [weights.get(f"{named[n]}.bias") for n in ("gate_proj", "up_proj")]
        self.gate_up_bias = np.concatenate([b for b in biases if b is not None]) if biases[0] is not None else None
        self.down, self.down_bias = (
            by_input(weights[f"{named['down_proj']}.weight"]),
            weights.get(f"{named['down_proj']}.bias"),
        )

    def __call__(self, x: Floats) -> Floats:
        """(rows, hidden) → this rank's part of (rows, hidden)."""
        both = linear(x, self.gate_up, self.gate_up_bias)
        width = both.shape[-1] // 2
        return linear(self.activation(both[:, :width]) * both[:, width:], self.down, self.down_bias)

    def arrays(self) -> list[Floats | None]:
        return [self.gate_up, self.gate_up_bias, self.down, self.down_bias]


class RoutedMlp:
    """Mixtral, Qwen-MoE, DeepSeek V2 (softmax) and V3 (sigmoid): optional groups, optional shared expert."""

    def __init__(self, weights: Mapping[str, Floats], prefix: str, config: ModelConfig, moe: Moe) -> None:
        self.moe = moe
        block, names = moe_prefix(prefix, moe), expert_names(moe)
        self.router = by_input(weights[f"{block}gate.weight"])
        self.correction = weights.get(f"{block}gate.e_score_correction_bias")
        self.experts = [GatedMlp(weights, f"{block}experts.{e}.", config.activation, names) for e in range(moe.experts)]
        shared = block + shared_name(moe)
        self.shared = GatedMlp(weights, shared, config.activation) if moe.shared_intermediate_size else None
        gate = weights.get(f"{block}shared_expert_gate.weight")
        self.shared_gate = None if gate is None else by_input(gate)

    def __call__(self, x: Floats) -> Floats:
        """(rows, hidden) → this rank's part of (rows, hidden)."""
        chosen, share = self.route(x)
        out = np.zeros_like(x)
        for expert in np.unique(chosen):
            rows, places = np.nonzero(chosen == expert)
            out[rows] += self.experts[expert](x[rows]) * share[rows, places, None]
        if self.shared is not None:
            extra = self.shared(x)
            out += extra if self.shared_gate is None else sigmoid(linear(x, self.shared_gate)) * extra
        return out

    def route(self, x: Floats) -> tuple[np.ndarray, Floats]:
        """Experts of each row and their shares, both (rows, per_token)."""
        moe = self.moe
        logits = linear(x, self.router)
        scores = sigmoid(logits) if moe.sigmoid else softmax(logits)
        ranked = scores if self.correction is None else scores + self.correction
        if moe.groups:
            grouped = ranked.reshape(len(x), moe.groups, -1)
            best = np.sort(grouped, axis=-1)[:, :, -2:].sum(axis=-1) if moe.sigmoid else grouped.max(axis=-1)
            dropped = np.argsort(-best, axis=-1, kind="stable")[:, moe.groups_per_token :]
            kept = grouped.copy()
            np.put_along_axis(kept, dropped[:, :, None], 0.0, axis=1)
            ranked = kept.reshape(scores.shape)
        chosen = np.argsort(-ranked, axis=-1, kind="stable")[:, : moe.per_token]
        share = np.take_along_axis(scores, chosen, axis=-1)
        if moe.normalize:
            share = share / share.sum(axis=-1, keepdims=True)
        return chosen, share * np.float32(moe.scale)

    def arrays(self) -> list[Floats | None]:
        mlps = self.experts + ([self.shared] if self.shared else [])
        return [self.router, self.correction, self.shared_gate, *(array for mlp in mlps for array in mlp.arrays())]


def make_mlp(weights: Mapping[str, Floats], prefix: str, config: ModelConfig, layer: Layer) -> GatedMlp | RoutedMlp:
    """The layer's kind of MLP from the tensors under `prefix`."""
    if layer.routed and config.moe:
        return RoutedMlp(weights, prefix, config, config.moe)
    return GatedMlp(weights, prefix + "mlp.", config.activation)
