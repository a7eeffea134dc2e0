"""`planner simulate`: a plan under its load, or under another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = (
    "planner simulate out --concurrency 64 --duration 600",
    "planner simulate out --request-rate 5 --lengths lognormal:0.8",
)


def simulate(
    plan: opt.PlanArgument,
    concurrency: opt.Concurrency = None,
    isl: Annotated[
        int | None,
        typer.Option("--isl", "--input-len", metavar="TOKENS", help="Input tokens.", rich_help_panel=opt.LOAD),
    ] = None,
    osl: Annotated[
        int | None,
        typer.Option("--osl", "--output-len", metavar="TOKENS", help="Output tokens.", rich_help_panel=opt.LOAD),
    ] = None,
    request_rate: opt.RequestRate = None,
    arrival: opt.Arrival = None,
    lengths: opt.Lengths = None,
    shared_prefix: opt.SharedPrefix = None,
    speculative_tokens: opt.SpeculativeTokens = None,
    acceptance_rate: opt.AcceptanceRate = None,
    draft_cost: opt.DraftCost = None,
    static_batches: opt.StaticBatches = False,
    seed: opt.Seed = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", min=1, max=86_400, help="Seconds of traffic, every client; else a few rounds."),
    ] = None,
    ttft: opt.Ttft = None,
    itl: opt.Itl = None,
    slo_percentile: Annotated[
        float | None,
        typer.Option(
            "--slo-percentile", metavar="P", help="Percentile the targets hold at, 50–99.9.", rich_help_panel=opt.LOAD
        ),
    ] = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Latencies, throughput, queue and KV occupancy of a plan, and the most users and requests/s within its targets.

    What is left out is the plan's own load. Exit 0; 2 for a wrong request.
    """
    from planner import api

    load: dict[str, Any] = {"input_tokens": isl, "output_tokens": osl}
    if lengths is not None:
        from planner.sources.lengths import length_fields

        load |= length_fields(lengths)
    found = api.simulate(
        plan, duration, concurrency=concurrency, request_rate=request_rate, arrival=arrival,
        shared_prefix_tokens=shared_prefix, speculative_tokens=speculative_tokens, acceptance_rate=acceptance_rate,
        draft_cost=draft_cost, static_batches=static_batches or None, seed=seed, ttft_ms=ttft, itl_ms=itl,
        slo_percentile=slo_percentile, **load,
    )  # fmt: skip

    def table(console: Console) -> None:
        from planner.report.simulation import print_simulation

        print_simulation(console, found)

    emit(output, found.to_dict, table)
