"""Local corrections as a table for a terminal. Computes nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from planner.spec.local import LocalCorrection


def print_corrections(console: Console, corrections: Sequence[LocalCorrection], summary: str) -> None:
    """One row per correction, then one line."""
    from rich.table import Table
    from rich.text import Text

    if corrections:
        table = Table(title="measured / estimated", title_justify="left", expand=False)
        table.add_column("correction", overflow="fold")
        for column in ("date", "requests", "TTFT", "ITL", "tokens/s", "weights", "KV pool"):
            table.add_column(column, justify="right", no_wrap=True)
        for c in corrections:
            table.add_row(
                Text(c.name), c.date, f"{c.requests:,}", f"{c.ttft.value:.3g}", f"{c.itl.value:.3g}" if c.itl else "—",
                f"{c.output_tokens_per_s.value:.3g}", _mib(c.weights_offset_bytes), _mib(c.kv_cache_offset_bytes),
            )  # fmt: skip
        console.print(table)
    console.print(Text(summary))


def _mib(n_bytes: int | None) -> str:
    return "—" if n_bytes is None else f"{n_bytes / MIB:+,.0f} MiB"
