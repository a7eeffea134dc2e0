"""What an unknown attention layer keeps per token, from the shapes of its matrices and what the config says of heads.

The width of the key and value projections is what the cache holds, whatever the split into heads; the split is
the config's, else that of the norms on queries and keys, else assumed and said. Knows no architecture by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from planner.errors import FormatError
from planner.sources.hf import deepseek
from planner.sources.hf.common import Config
from planner.spec.model import Attention, Mla

Shapes = Mapping[str, tuple[int, ...]]
"""Role of a matrix (q, k, v, qkv, o, or its own name) → its shape."""
_HEAD_DIM_KEYS: Final = ("head_dim", "attention_head_dim", "d_head", "head_size", "kv_channels", "d_kv", "n_embd_head")
_USUAL_HEAD_DIMS: Final = (128, 64, 256, 96, 80, 112, 160, 192, 32, 16, 8)
_NORMS: Final = ("q_norm", "k_norm", "q_layernorm", "k_layernorm", "query_layernorm", "key_layernorm")


def attends(shapes: Shapes) -> bool:
    """Queries and keys are there, apart, fused or low-rank."""
    return "qkv" in shapes or {"q", "k"} <= set(shapes) or any(name.startswith("kv_a") for name in shapes)


def attention(
    c: Config, shapes: Shapes, elements: int, hidden: int, window: int | None, said: list[str]
) -> Attention | Mla:
    """One layer's attention that adds up to `elements`; what was assumed goes to `said`.

    Raises FormatError naming the keys that neither the config nor a shape gives.
    """
    if any(name.startswith("kv_a") for name in shapes):
        latent = deepseek.mla(_latent_keys(c, shapes, hidden))
        extra = elements - deepseek.mla_parameters(latent, hidden)
        return latent.model_copy(update={"extra_parameters": extra})
    plain = _heads(c, shapes, hidden, said).model_copy(
        update={
            "window_tokens": window or None,
            "qkv_bias": all(f"{n}.bias" in shapes for n in "qkv") or "qkv.bias" in shapes,
            "o_bias": "o.bias" in shapes,
        }
    )
    d, v = plain.head_dim, plain.v_head_dim or plain.head_dim
    wide = plain.heads * d * (2 if plain.gated_query else 1) + plain.kv_heads * (d + v)
    counted = hidden * (wide + plain.heads * v) + (wide if plain.qkv_bias else 0) + hidden * plain.o_bias
    extra = elements - counted
    if abs(extra) > 0.02 * counted:
        said.append(
            "attention stores other matrices than plain query, key, value and output: their total is exact,"
            " their split over devices is not"
        )
    return plain.model_copy(update={"extra_parameters": extra})


def _heads(c: Config, shapes: Shapes, hidden: int, said: list[str]) -> Attention:
    heads, kv_heads = c.opt_int("num_attention_heads") or None, c.opt_int("num_key_value_heads") or None
    q, k, v = _widths(shapes, hidden, heads)
    out = _width(shapes, "o", hidden)
    gated = out is not None and q == 2 * out and (heads is None or heads * (c.opt_int(*_HEAD_DIM_KEYS) or 0) == out)
    q = out if gated and out is not None else q
    d = c.opt_int(*_HEAD_DIM_KEYS) or _head_dim(shapes, heads, kv_heads, q, k, said)
    held = k // d if k % d == 0 else kv_heads or heads or 0
    if kv_heads is not None and held != kv_heads:
        said.append(f"the config says {kv_heads} KV heads, the key projection holds {held}: the latter used")
    n = q // d if q % d == 0 else heads or 0
    if not n or not held or n % held:
        raise FormatError(
            f"num_attention_heads and head_dim cannot be told: {q} query and {k} key rows are not whole heads of {d}"
        )
    v_dim = v // held if v != k and v % held == 0 else None
    return Attention(heads=n, kv_heads=held, head_dim=d, v_head_dim=v_dim, gated_query=gated)


def _widths(shapes: Shapes, hidden: int, heads: int | None) -> tuple[int, int, int]:
    """Rows of the query, key and value projections; of a fused one those that the output projection leaves."""
    q, k, v = (_width(shapes, name, hidden) for name in "qkv")
    if q is not None and k is not None:
        return q, k, v or k
    fused, out = _width(shapes, "qkv", hidden) or 0, _width(shapes, "o", hidden) or hidden
    if fused <= out or (fused - out) % 2:
        raise FormatError(f"a fused projection of {fused} rows does not tell its keys from its {out} queries")
    return out, (fused - out) // 2, (fused - out) // 2


def _width(shapes: Shapes, role: str, hidden: int) -> int | None:
    """The side of a matrix that is not the hidden one, whichever comes first; None without the matrix."""
    shape = shapes.get(role)
    if shape is None:
        return None
    elements = prod(shape)
    return elements // hidden if elements % hidden == 0 else shape[0]


def _head_dim(shapes: Shapes, heads: int | None, kv_heads: int | None, q: int, k: int, said: list[str]) -> int:
    """Width of one head where the config does not give it."""
    if heads and q % heads == 0:
        return q // heads
    if kv_heads and k % kv_heads == 0:
        return k // kv_heads
    norm = next((shapes[n][0] for n in _NORMS if n in shapes and len(shapes[n]) == 1), None)
    usual = (norm,) if norm and norm < q else _USUAL_HEAD_DIMS
    d = next((d for d in usual if q % d == 0 and k % d == 0 and (q // d) % (k // d) == 0), None)
    if d is None:
        raise FormatError(f"config lacks num_attention_heads and head_dim, and {q} query and {k} key rows do not tell")
    how = "as wide as the norm on queries" if norm else "an assumption"
    said.append(
        f"the config names no heads: {q} query and {k} key rows are read as heads of {d} ({how}); the bytes of the"
        " KV cache follow from the rows, over how many devices it divides does not"
    )
    return d


def _latent_keys(c: Config, shapes: Shapes, hidden: int) -> Config:
    """The config with those keys of latent attention that it lacks, solved from the shapes."""
    found: dict[str, int] = {}
    kv_a = next((_width(shapes, n, hidden) for n in shapes if n.startswith("kv_a") and len(shapes[n]) == 2), None)
    norm = next((shapes[n][0] for n in shapes if n.startswith("kv_a") and len(shapes[n]) == 1), None)
    rank = c.opt_int("kv_lora_rank") or norm
    if rank is None or kv_a is None or kv_a <= rank:
        raise FormatError("config lacks kv_lora_rank, and no norm on the latent tells it")
    rope = c.opt_int("qk_rope_head_dim") or kv_a - rank
    found |= {"kv_lora_rank": rank, "qk_rope_head_dim": rope}
    out = _width(shapes, "o", hidden)
    kv_b = next((shapes[n][0] for n in shapes if n.startswith("kv_b") and len(shapes[n]) == 2), None)
    q_rank = next((shapes[n][0] for n in shapes if n.startswith("q_a") and len(shapes[n]) == 2), None)
    q_b = next((shapes[n][0] for n in shapes if n.startswith("q_b") and len(shapes[n]) == 2), None)
    q = q_b or _width(shapes, "q", hidden)
    if q_rank:
        found["q_lora_rank"] = q_rank
    if out and kv_b and q:
        # heads × (nope + v) = kv_b, heads × v = out, heads × (nope + rope) = q
        heads = c.opt_int("num_attention_heads") or (q - kv_b + out) // rope
        if heads > 0:
            found |= {
                "num_attention_heads": heads, "v_head_dim": out // heads, "qk_nope_head_dim": (kv_b - out) // heads,
            }  # fmt: skip
    return c.with_defaults(**found)
