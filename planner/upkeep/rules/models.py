"""Models: the count that the shapes give is the published one or says why not, and the name's own figure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from planner.estimate.tensors import active_parameters, parameter_count
from planner.spec.model import ModelSpec
from planner.upkeep.rules.accelerators import within
from planner.upkeep.shelf import Finding, Shelf, found

if TYPE_CHECKING:
    from planner.sources.entries import Entry

CLOSE = 0.27
"""Relative difference that a note may explain: a tied head that the files store once more."""
SMALL_EXTRA_B = 0.75
"""What a small model's name may leave out, in billions: its embeddings (Falcon3-1B has 1.67)."""
_TOTAL = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)B(?![A-Za-z0-9])", re.IGNORECASE)
_EXPERTS = re.compile(r"-\d+E(?![A-Za-z0-9])")
"""`17B-16E`: the figure before it counts what is active (Llama 4)."""
_ACTIVE = re.compile(r"(?<![A-Za-z0-9])A(\d+(?:\.\d+)?)B(?![A-Za-z0-9])", re.IGNORECASE)


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Each model on its own."""
    formats = shelf.ids("format")
    for entry, m in shelf.of("model", ModelSpec):
        yield from found(entry, "parameters", against_published(m))
        yield from found(entry, "parameters", _named(m))
        yield from found(entry, "ranges", _ranges(m))
        yield from found(entry, "consistency", _basis(entry, m))
        if m.quantization not in formats:
            yield from found(entry, "links", (f"no quantization format {m.quantization!r}",))


def against_published(m: ModelSpec) -> Iterator[str]:
    """Shapes against the published total."""
    computed = parameter_count(m)
    if m.parameters is None:
        if not m.parameters_note:
            yield "no published parameter total, and no parameters_note that says so"
    elif computed != m.parameters and not m.parameters_note:
        yield f"the shapes give {computed:,} parameters, published are {m.parameters:,}, and no note says why"
    elif abs(computed / m.parameters - 1) > CLOSE:
        yield f"the shapes give {computed:,} parameters, published are {m.parameters:,}: no note explains so much"


def _named(m: ModelSpec) -> Iterator[str]:
    """`-70B-`, `-A3B-` and `8x7B` in the id against the shapes; names round, small ones leave embeddings out."""
    name = m.id.rpartition("/")[2]
    total, active = parameter_count(m) / 1e9, active_parameters(m) / 1e9
    figures = [float(t) for t in _TOTAL.findall(name)]
    if figures:
        said, counted = max(figures), active if _EXPERTS.search(name) else total
        most = max(1.5, 1 + SMALL_EXTRA_B / said)
        yield from within(f"shapes over the {said:g}B of the name", counted / said, 0.7, most, "times")
    if match := _ACTIVE.search(name):
        said = float(match[1])
        most = max(1.5, 1 + SMALL_EXTRA_B / said)
        yield from within(f"active parameters over the A{match[1]}B of the name", active / said, 0.6, most, "times")


def _ranges(m: ModelSpec) -> Iterator[str]:
    yield from within("context_length", m.context_length, 512, 20_000_000, "tokens")
    yield from within("vocab_size", m.vocab_size, 1000, 1_000_000, "")
    yield from within("n_layers", m.n_layers, 1, 1000, "")
    yield from within("parameters", parameter_count(m), 0.05, 4000, "B", 1e9)
    covered = sorted(i for group in m.layers for i in group.layers)
    if covered != list(range(len(covered))):
        yield "layers are not numbered from 0 without gaps"


def _basis(entry: Entry, m: ModelSpec) -> Iterator[str]:
    if not m.provenance.source.startswith("https://"):
        yield "the source is no https address"
    if m.provenance.basis not in ("spec", "derived"):
        yield f"basis {m.provenance.basis}: a config is read or derived, never {m.provenance.basis}"
    if m.revision is not None and not re.fullmatch(r"[0-9a-f]{40}", m.revision):
        yield f"revision {m.revision!r} is no commit"
