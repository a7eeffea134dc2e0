"""`planner compare`: engines side by side, published figures beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner.cli import options as opt
from planner.cli.emit import emit
from planner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = ("planner compare --model llama3-8b --gpus 1xA100 --concurrency 128",)


def compare(
    model: opt.Model = None,
    gpus: opt.Gpus = None,
    ram: opt.Ram = None,
    concurrency: opt.Concurrency = None,
    isl: opt.Isl = 1024,
    osl: opt.Osl = 256,
    quantization: opt.Quantization = None,
    objective: opt.Objective = None,
    offline: opt.Offline = False,
    local_calibration: opt.LocalCalibration = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Each engine's best configuration under the same load, and where published figures contradict themselves."""
    from planner import api

    if not model or not gpus:
        raise UsageError("compare needs --model and --gpus, e.g. --model llama3-8b --gpus 1xA100")
    result = api.compare(
        model, gpus, ram=ram, concurrency=concurrency, input_tokens=isl, output_tokens=osl, quantization=quantization,
        objective=objective, local_calibration=local_calibration,
    )  # fmt: skip

    def table(console: Console) -> None:
        from planner.report.terminal import print_comparison

        print_comparison(console, result)

    def data() -> dict[str, Any]:
        return result.to_dict()

    emit(output, data, table)
