"""Typed access to a config.json and the pieces that every architecture is put together from.

Knows how to read a key and how to group layers; knows no architecture. A missing or mistyped key is
a FormatError that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from planner.errors import FormatError
from planner.spec.model import Attention, Block, DenseFfn, Ffn, LayerGroup, Mixer, MoeFfn, RotaryTable

MAX_LAYERS = 10_000
"""Most layers that a config may name; the deepest model known has a few hundred. Readers build lists this long."""
MAX_EXPERTS = 100_000
"""Most experts of one layer."""
_LAYERS = re.compile(r"(?:^|_)(?:n_layers?|layers|depth|block_count|nextn_predict_layers)$")
_EXPERTS = re.compile(r"(?:^|_)(?:experts|expert_count)$")


def check_count(name: str, value: float) -> None:
    """Raises FormatError, naming key, limit and value, when `name` counts layers or experts and is beyond sense."""
    leaf = name.rsplit(".", 1)[-1]
    for pattern, limit, what in ((_LAYERS, MAX_LAYERS, "layers"), (_EXPERTS, MAX_EXPERTS, "experts")):
        if value > limit and pattern.search(leaf):
            raise FormatError(f"key {name} is {value:,.0f}; at most {limit:,} {what} are read")


class MissingKeyError(FormatError):
    """A key without a default is not in the config."""


class Config:
    """A config.json, or one of its nested tables, read key by key."""

    def __init__(self, data: Mapping[str, object], path: str = "") -> None:
        self.data, self.path = data, path

    def __contains__(self, name: str) -> bool:
        return self.data.get(name) is not None

    def _get(self, names: tuple[str, ...]) -> tuple[str, object]:
        for name in names:
            if self.data.get(name) is not None:
                return name, self.data[name]
        return names[0], None

    def opt_int(self, *names: str) -> int | None:
        """The first of `names` that is set, as an int; None when none is."""
        name, value = self._get(names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:  # inf % 1 is no number
            raise FormatError(f"config key {self.path}{name} is {value!r}, not an integer")
        if value < 0 or value > 1 << 48:
            raise FormatError(f"config key {self.path}{name} is {value!r}, out of range")
        check_count(f"{self.path}{name}", value)
        return int(value)

    def integer(self, *names: str, default: int | None = None) -> int:
        """As `opt_int`, with a default; without one the key must be there."""
        value = self.opt_int(*names)
        if value is not None:
            return value
        if default is None:
            raise MissingKeyError(f"config lacks {' or '.join(self.path + n for n in names)}")
        return default

    def positive(self, *names: str, default: int | None = None) -> int:
        """As `int`, at least 1."""
        value = self.integer(*names, default=default)
        if value < 1:
            raise FormatError(f"config key {self.path}{names[0]} is {value}, less than 1")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise FormatError(f"config key {self.path}{name} is {value!r}, not true or false")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise FormatError(f"config key {self.path}{name} is {value!r}, not text")
        return value

    def sequence(self, name: str) -> Sequence[object] | None:
        """A list, or None."""
        value = self.data.get(name)
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise FormatError(f"config key {self.path}{name} is not a list")
        return value

    def sub(self, name: str) -> Config:
        """The nested table `name`; an empty one when it is absent."""
        value = self.data.get(name)
        if value is None:
            return Config({}, f"{self.path}{name}.")
        if not isinstance(value, Mapping):
            raise FormatError(f"config key {self.path}{name} is not a table")
        return Config(cast("Mapping[str, object]", value), f"{self.path}{name}.")

    def with_defaults(self, **defaults: object) -> Config:
        """This table with `defaults` where it has no value."""
        return Config({**defaults, **{k: v for k, v in self.data.items() if v is not None}}, self.path)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer before grouping."""

    mixers: tuple[Mixer, ...]
    ffns: tuple[Ffn, ...]
    norm_parameters: int
    extra_linears: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decoder:
    """What an architecture's reader returns."""

    hidden_size: int
    vocab_size: int
    tie_word_embeddings: bool
    context_length: int
    layers: tuple[LayerPlan, ...]
    final_norm_parameters: int
    blocks: tuple[Block, ...] = ()
    embedding_dim: int | None = None
    lm_head_bias: bool = False
    modality: str = "text"
    rotary: tuple[RotaryTable, ...] = ()
    assumptions: tuple[str, ...] = field(default=())

    def plus(self, *blocks: Block, modality: str = "vision") -> Decoder:
        """This decoder with a tower beside it."""
        return replace(self, blocks=(*self.blocks, *blocks), modality=modality)


Reader = Callable[[Config], Decoder]


def group_layers(plans: Sequence[LayerPlan]) -> tuple[LayerGroup, ...]:
    """Equal layers together, in order of first appearance."""
    found: dict[LayerPlan, list[int]] = {}
    for index, plan in enumerate(plans):
        found.setdefault(plan, []).append(index)
    return tuple(
        LayerGroup(
            layers=tuple(indices),
            mixers=plan.mixers,
            ffns=plan.ffns,
            norm_parameters=plan.norm_parameters,
            extra_linears=plan.extra_linears,
        )
        for plan, indices in found.items()
    )


def layer_kinds(c: Config, n_layers: int, pattern: int | None = None) -> list[str]:
    """`layer_types` of the config, else every `pattern`-th layer full and the rest sliding."""
    given = c.sequence("layer_types")
    if given is not None:
        kinds = [str(k) for k in given]
        if len(kinds) < n_layers:
            raise FormatError(f"config key {c.path}layer_types has {len(kinds)} entries for {n_layers} layers")
        return kinds[:n_layers]
    if pattern is None:
        return ["full_attention"] * n_layers
    return ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(n_layers)]


def gqa(c: Config, **changes: object) -> Attention:
    """Grouped-query attention as nearly every config spells it."""
    heads = c.positive("num_attention_heads", "n_head", "num_heads")
    kv_heads = c.positive("num_key_value_heads", "num_kv_heads", "kv_n_heads", default=heads)
    head_dim = c.opt_int("head_dim", "attention_head_dim") or c.positive("hidden_size") // heads
    if heads % kv_heads:
        raise FormatError(f"config has {heads} attention heads that {kv_heads} KV heads do not divide")
    return Attention(heads=heads, kv_heads=kv_heads, head_dim=head_dim).model_copy(update=changes)


def qk_norm_parameters(a: Attention) -> int:
    """Parameters of the norms on queries and keys."""
    if a.qk_norm == "head":
        return 2 * a.head_dim
    if a.qk_norm == "full":
        return a.head_dim * (a.heads + a.kv_heads)
    return 0


def gated(c: Config, *names: str, bias: bool = False) -> DenseFfn:
    """A gated MLP of width `intermediate_size` (or the first of `names`)."""
    return DenseFfn(intermediate=c.positive(*(names or ("intermediate_size",))), bias=bias)


def moe(c: Config, **changes: object) -> MoeFfn:
    """Routed experts as nearly every config spells them."""
    spec = MoeFfn(
        experts=c.positive("num_experts", "n_routed_experts", "num_local_experts"),
        experts_per_token=c.positive("num_experts_per_tok", "moe_k", "top_k_experts"),
        intermediate=c.positive("moe_intermediate_size", "expert_intermediate_size", "intermediate_size"),
    )
    return spec.model_copy(update=changes)


def context(c: Config, *names: str, default: int | None = None) -> int:
    """Longest sequence the config allows."""
    return c.positive(*(names or ("max_position_embeddings",)), default=default)


def simple(
    c: Config, plans: Sequence[LayerPlan], *, tie: bool = False, norm_factor: int = 1, **extra: object
) -> Decoder:
    """A decoder with one embedding, `plans` and a final norm of `norm_factor` × hidden."""
    hidden = c.positive("hidden_size")
    base = Decoder(
        hidden_size=hidden,
        vocab_size=c.positive("vocab_size"),
        tie_word_embeddings=c.flag("tie_word_embeddings", tie),
        context_length=context(c),
        layers=tuple(plans),
        final_norm_parameters=norm_factor * hidden,
    )
    return replace(base, **extra)  # type: ignore[arg-type]
