"""`planner models|hardware|engines list|show`: what the catalogs hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit

if TYPE_CHECKING:
    from rich.console import Console

    from planner.spec.base import Spec

models = typer.Typer(help="Models of the catalog.", no_args_is_help=True)
hardware = typer.Typer(help="Accelerators, CPUs and instances of the catalog.", no_args_is_help=True)
engines = typer.Typer(help="Engine releases of the catalog.", no_args_is_help=True)

Filter = Annotated[str, typer.Argument(help="Show only names that contain this.")]
Name = Annotated[str, typer.Argument(help="An id or alias.")]


@models.command("list")
def list_models(containing: Filter = "", output: opt.OutputOption = opt.Output.table) -> None:
    """Every model: parameters, context, licence, aliases."""
    from planner.report.numbers import count
    from planner.sources.catalog import load

    found = [m for m in load().models() if _matches(containing, m.id, m.aliases)]
    body = [
        (m.id, count(m.parameters) if m.parameters else "–", f"{m.context_length:,}", m.quantization, m.license or "–",
         ", ".join(m.aliases[:3]))
        for m in found
    ]  # fmt: skip
    _rows(output, ("model", "parameters", "context", "weights", "licence", "aliases"), body)


@models.command("show")
def show_model(name: Name, output: opt.OutputOption = opt.Output.yaml) -> None:
    """One model with its layers and published checkpoints."""
    from planner.sources.catalog import load
    from planner.sources.models import resolve_model

    _record(output, resolve_model(load(), name)[0])


@models.command("checkpoints")
def list_checkpoints(name: Name, offline: opt.Offline = False, output: opt.OutputOption = opt.Output.table) -> None:
    """Ready quantized weights of a model: what the catalog lists, and (online) what the Hub has, by trust."""
    from planner import api
    from planner.cli.emit import note

    found, unasked = api.checkpoints(name)
    body = [
        (c.quantization, c.repo or f"ollama:{c.ollama_tag}", c.file or "–",
         f"{c.size_bytes / (1 << 30):.2f} GiB" if c.size_bytes else "–",
         (c.revision or "–")[:12], "yes" if c.provenance.basis == "spec" else "by its name")
        for c in found
    ]  # fmt: skip
    _rows(output, ("format", "where", "file", "size", "revision", "looked up"), body)
    if unasked:
        note(unasked)


@hardware.command("list")
def list_hardware(containing: Filter = "", output: opt.OutputOption = opt.Output.table) -> None:
    """Every accelerator and CPU."""
    from planner.estimate.overheads.host import gpu_share_bytes
    from planner.sources.catalog import load

    catalog = load()
    body = [
        (a.id, a.name, f"{gpu_share_bytes(a) / (1 << 30):.1f} GiB", f"{a.mem_bandwidth_bytes_per_s / 1e9:,.0f} GB/s",
         f"{(a.bf16_flops_per_s or a.fp16_flops_per_s or 0) / 1e12:,.0f} TFLOP/s",
         "" if a.plannable else a.refused_because)
        for a in catalog.accelerators()
        if _matches(containing, a.id, (a.name, *a.aliases))
    ]  # fmt: skip
    body += [
        (
            f"cpu:{c.id}",
            c.name,
            "–",
            f"{c.mem_bandwidth_bytes_per_s / 1e9:,.0f} GB/s",
            f"{c.fp32_flops_per_s / 1e12:.1f} TFLOP/s",
            "",
        )
        for c in catalog.cpus()
        if _matches(containing, c.id, (c.name, *c.aliases))
    ]
    _rows(output, ("id", "name", "memory", "bandwidth", "16-bit peak", "refused because"), body)


@hardware.command("show")
def show_hardware(name: Name, output: opt.OutputOption = opt.Output.yaml) -> None:
    """One accelerator, CPU (cpu:NAME) or machine (2xA100, aws:p5.48xlarge) with its sources."""
    from planner.sources.catalog import load
    from planner.sources.machines import resolve_machine

    machine = resolve_machine(load(), name)
    single = machine.count == 1 and machine.instance is None and machine.accelerator is not None
    _record(output, machine.accelerator if single and machine.accelerator else machine)


@engines.command("list")
def list_engines(output: opt.OutputOption = opt.Output.table) -> None:
    """Every engine release: lifecycle and platforms."""
    from planner.sources.catalog import load

    body = [
        (
            r.engine,
            r.version,
            r.lifecycle.status,
            ", ".join(dict.fromkeys([*(i.platform for i in r.images), *r.native_platforms])),
        )
        for r in load().releases()
    ]
    _rows(output, ("engine", "version", "lifecycle", "platforms"), body)


@engines.command("show")
def show_engine(
    name: Name,
    version: Annotated[str, typer.Argument(help="A version; left out: the newest.")] = "",
    output: opt.OutputOption = opt.Output.yaml,
) -> None:
    """One release: defaults, images, support matrix, lifecycle, sources."""
    from planner.advise.candidates import nearest_release
    from planner.errors import UnknownNameError
    from planner.sources.catalog import load

    releases = load().releases(name.casefold())
    if not releases:
        raise UnknownNameError("engine", name, {r.engine for r in load().releases()})
    _record(output, nearest_release(releases, version) if version else releases[0])


def _matches(text: str, identifier: str, names: tuple[str, ...]) -> bool:
    folded = text.casefold()
    return any(folded in name.casefold() for name in (identifier, *names))


def _rows(output: opt.Output, head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> None:
    def table(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        shown = Table(box=None, pad_edge=False)
        for column in head:
            shown.add_column(column)
        for row in body:
            shown.add_row(*(Text(cell) for cell in row))
        console.print(shown)

    emit(output, lambda: [dict(zip(head, row, strict=True)) for row in body], table)


def _record(output: opt.Output, record: Spec) -> None:
    def data() -> dict[str, Any]:
        from planner.report.records import record_data

        return record_data(record, compact=output is not opt.Output.json)

    def table(console: Console) -> None:
        from planner.cli.emit import emit as again

        again(opt.Output.yaml, data, lambda _: None)

    emit(output, data, table)
