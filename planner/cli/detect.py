"""`planner detect`: what is here, as planning sees it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit
from planner.units import gib

if TYPE_CHECKING:
    from rich.console import Console

    from planner.spec.hardware import Machine

KubernetesOption = Annotated[
    bool, typer.Option("--kubernetes", help="Look at the nodes of the current kubectl context instead.")
]

EXAMPLES = (
    "planner detect",
    "planner detect --kubernetes -o yaml",
)


def detect(kubernetes: KubernetesOption = False, output: opt.OutputOption = opt.Output.table) -> None:
    """Show this machine's accelerators, processor and memory, and the name to plan with.

    Exit 0 with a machine, 2 when nothing here can be planned for.
    """
    from planner.sources.catalog import load
    from planner.sources.detect import inspect
    from planner.sources.detect.machine import machine_of

    found = inspect(cluster=kubernetes)
    machine = machine_of(load(), found)

    def table(console: Console) -> None:
        for name, value in _rows(machine):
            console.print(f"{name:<14}{value}", markup=False)
        for note in machine.assumptions:
            console.print(f"  {note}", markup=False)

    def data() -> dict[str, Any]:
        return {"machine": machine.model_dump(mode="json"), "facts": asdict(found)}

    emit(output, data, table)


def _rows(machine: Machine) -> list[tuple[str, str]]:
    """Name and value of each line of the table."""
    whole = f"--gpus {machine.label}"
    part = bool(machine.slices) or any("scaled from" in note for note in machine.assumptions)
    rows = [("plan with", f"--gpus detect; {whole} is the whole device" if part else whole)]
    if machine.slices:
        rows.append(("cards", f"{machine.label}, run as {machine.count} slices; a model fits one or none"))
    if machine.accelerator is not None:
        size = gib(machine.accelerator.usable_memory_bytes)
        rows.append(("devices", f"{machine.count} × {machine.accelerator.name}, {size} each as the driver reports it"))
        between = "PCIe" if machine.count > 1 and not machine.slices else "none needed"
        rows.append(("link", machine.link.name if machine.link else between))
    elif machine.cpu is not None:
        rows.append(("processor", f"{machine.sockets} × {machine.cpu.name}, {machine.cpu.cores} cores each"))
    if machine.free_memory_bytes is not None:
        rows.append(("free", gib(machine.free_memory_bytes)))
    if machine.ram_bytes is not None:
        rows.append(("host memory", gib(machine.ram_bytes)))
    return rows
