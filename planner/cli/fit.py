"""`planner fit`: which catalogued models run well on a machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit
from planner.errors import UsageError
from planner.units import parse_tokens

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = (
    "planner fit --gpus 1xRTX-4090",
    "planner fit --gpus 1xM3-Max-64GB --engine ollama --top 50",
    "planner fit --gpus cpu --ram 48GiB",
)


def fit(
    gpus: opt.Gpus = None,
    gpu: opt.Gpu = None,
    num_gpus: opt.NumGpus = None,
    ram: opt.Ram = None,
    concurrency: opt.Concurrency = None,
    isl: opt.Isl = 1024,
    osl: opt.Osl = 256,
    ttft: opt.Ttft = None,
    itl: opt.Itl = None,
    engine: opt.Engine = None,
    quantization: opt.Quantization = None,
    max_model_len: opt.MaxModelLen = None,
    top: opt.Top = 20,
    local_calibration: opt.LocalCalibration = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """List what runs on the machine, best first: targets met, then larger models, then faster.

    Exit 0 with a list, 1 when no catalogued model fits, 2 for a wrong request.
    """
    from planner import api

    if gpu is not None and gpus is None:
        gpus = f"{num_gpus or 1}x{gpu}"
    if not gpus:
        raise UsageError("fit needs --gpus, e.g. --gpus 1xRTX-4090")
    found = api.fit(
        gpus, ram=ram, concurrency=concurrency, input_tokens=isl, output_tokens=osl, ttft_ms=ttft, itl_ms=itl,
        engine=engine, quantization=quantization, max_model_len=parse_tokens(max_model_len) if max_model_len else None,
        local_calibration=local_calibration,
    )  # fmt: skip

    def table(console: Console) -> None:
        from planner.report.terminal import print_fit

        print_fit(console, found, top)

    def data() -> list[dict[str, Any]]:
        return [asdict(row) for row in found[:top]]

    emit(output, data, table)
    if not found:
        raise typer.Exit(1)
