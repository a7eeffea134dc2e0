"""A simulated load as a table for a terminal. Computes nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.report.layout import print_text
from planner.report.numbers import figure, short

if TYPE_CHECKING:
    from rich.console import Console

    from planner.estimate.capacity import Capacity
    from planner.estimate.deployment import Workload
    from planner.validate.simulate import Simulation


def print_simulation(console: Console, found: Simulation) -> None:
    """The load, one row per figure, and what more load it bears."""
    from rich.table import Table

    p = found.performance
    print_text(console, found.subject, "bold")
    print_text(console, described(found.workload))
    table = Table(box=None, pad_edge=False)
    for name in ("metric", "mean", "p50", "p90", "p99"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    first = [("TTFT ms", p.usual_ttft_ms)]
    if p.start_matters:
        first.append(("TTFT ms with the start", p.ttft_ms))
    for name, times in (*first, ("ITL ms", p.itl_ms)):
        cells = ("–",) * 4 if times is None else [short(f.value) for f in (times.mean, times.p50, times.p90, times.p99)]
        table.add_row(name, *cells)
    console.print(table)
    rows = {
        "output": figure(p.output_tokens_per_s),
        "requests": figure(p.requests_per_s),
        "in the queue": f"{short(p.queue_ms)} ms on average",
        "running at once": f"{short(p.effective_concurrency)} per replica",
        "KV cache in use": f"{p.kv_occupancy:.0%} on average, {p.kv_occupancy_peak:.0%} at most",
        "preemptions": f"{short(p.preemptions_per_request)} per request",
    }
    for name, value in rows.items():
        print_text(console, f"{name}: {value}")
    t = found.targets
    print_text(console, f"within TTFT {t.ttft_ms:g} ms and ITL {t.itl_ms:g} ms at p{t.percentile:g} it holds up to")
    print_text(console, f"  {found.users.load:,.0f} users; {_then(found.users)}")
    print_text(console, f"  {short(found.rate.load)} requests/s; {_then(found.rate)}")


def described(load: Workload) -> str:
    """The load in words."""
    who = {
        "closed_loop": f"{load.concurrency} users, each sending again on the last token",
        "burst": f"{load.concurrency} requests at once",
        "poisson": f"{load.request_rate or 0:g} requests/s at random",
    }[load.arrival]
    spread = "" if load.distribution == "fixed" else f" on average ({load.distribution})"
    words = [who, f"{load.input_tokens:,} in, {load.output_tokens:,} out{spread}"]
    if load.shared_prefix_tokens:
        words.append(f"{load.shared_prefix_tokens:,} of them shared")
    if load.speculative_tokens:
        words.append(f"{load.speculative_tokens} drafted per step, {load.acceptance_rate:.0%} accepted")
    if load.static_batches:
        words.append("in static batches")
    return "; ".join(words)


def _then(found: Capacity) -> str:
    return f"beyond that {found.breaks} gives way" if found.breaks else "nothing gives way"
