"""`planner models|hardware|engines list|show`: what the catalogs hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit
from planner.cli.help import Verb, Verbs
from planner.units import GIB

if TYPE_CHECKING:
    from rich.console import Console

    from planner.report.layout import Column
    from planner.spec.base import Spec
    from planner.spec.model import ModelSpec

models = typer.Typer(help="Models of the catalog: list, show, checkpoints.", cls=Verbs, no_args_is_help=True)
hardware = typer.Typer(
    help="Accelerators, CPUs and instances of the catalog: list, show.", cls=Verbs, no_args_is_help=True
)
engines = typer.Typer(help="Engine releases of the catalog: list, show.", cls=Verbs, no_args_is_help=True)

Filter = Annotated[str, typer.Argument(help="Show only names that contain this.")]
Name = Annotated[str, typer.Argument(help="An id or alias.")]


@models.command("list", cls=Verb, epilog="planner models list qwen3")
def list_models(containing: Filter = "", output: opt.OutputOption = opt.Output.table) -> None:
    """Every model: parameters, context, licence, aliases."""
    from planner.estimate.tensors import loaded_parameters
    from planner.report.layout import Column
    from planner.sources.catalog import load

    found = [m for m in load().models() if _matches(containing, m.id, m.aliases)]
    columns = (
        Column("model", loose=True), Column("parameters", right=True), Column("context", right=True),
        Column("weights"), Column("licence", spare=1), Column("aliases", loose=True),
    )  # fmt: skip

    def rows() -> list[tuple[str, ...]]:
        return [
            (m.id, _parameters(m), f"{m.context_length:,}", m.quantization, m.license or "–", _first(m.aliases))
            for m in found
        ]

    def data() -> list[dict[str, Any]]:
        return [
            {
                "id": m.id, "parameters": loaded_parameters(m), "context_tokens": m.context_length,
                "weights": m.quantization, "license": m.license, "gated": m.gated, "aliases": list(m.aliases),
            }
            for m in found
        ]  # fmt: skip

    _rows(output, columns, rows, data)
    _say_if_none(found, containing, "model")


@models.command("show", cls=Verb, epilog="planner models show llama3-70b")
def show_model(name: Name, output: opt.OutputOption = opt.Output.yaml) -> None:
    """One model with its layers and published checkpoints."""
    from planner.sources.catalog import load
    from planner.sources.models import resolve_model

    _record(output, resolve_model(load(), name)[0])


@models.command("checkpoints", cls=Verb, epilog="planner models checkpoints llama3-70b --offline")
def list_checkpoints(name: Name, offline: opt.Offline = False, output: opt.OutputOption = opt.Output.table) -> None:
    """Ready quantized weights of a model: what the catalog lists, and (online) what the Hub has, by trust."""
    from planner import api
    from planner.cli.emit import note
    from planner.report.layout import Column

    found, unasked = api.checkpoints(name)
    columns = (
        Column("format"), Column("where", loose=True), Column("file", loose=True, spare=3),
        Column("size GiB", right=True, spare=1), Column("revision", spare=2), Column("looked up"),
    )  # fmt: skip

    def rows() -> list[tuple[str, ...]]:
        return [
            (c.quantization, c.repo or f"ollama:{c.ollama_tag}", c.file or "–",
             f"{c.size_bytes / GIB:.2f}" if c.size_bytes else "–",
             (c.revision or "–")[:12], "yes" if c.provenance.basis == "spec" else "by its name")
            for c in found
        ]  # fmt: skip

    def data() -> list[dict[str, Any]]:
        return [
            {
                "format": c.quantization, "repo": c.repo, "file": c.file, "ollama_tag": c.ollama_tag,
                "size_bytes": c.size_bytes, "revision": c.revision, "looked_up": c.provenance.basis == "spec",
            }
            for c in found
        ]  # fmt: skip

    _rows(output, columns, rows, data)
    if unasked:
        note(unasked)


@hardware.command("list", cls=Verb, epilog="planner hardware list A100")
def list_hardware(containing: Filter = "", output: opt.OutputOption = opt.Output.table) -> None:
    """Every accelerator and CPU."""
    from planner.estimate.overheads.host import gpu_share_bytes
    from planner.report.layout import Column
    from planner.sources.catalog import load

    catalog = load()
    devices = [a for a in catalog.accelerators() if _matches(containing, a.id, (a.name, *a.aliases))]
    processors = [c for c in catalog.cpus() if _matches(containing, c.id, (c.name, *c.aliases))]
    columns = (
        Column("id"), Column("name", loose=True), Column("memory GiB", right=True),
        Column("bandwidth GB/s", right=True), Column("peak TFLOP/s", right=True), Column("of"),
        Column("refused because", loose=True),
    )  # fmt: skip

    def rows() -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = [
            (a.id, a.name, f"{gpu_share_bytes(a) / GIB:.1f}", f"{a.mem_bandwidth_bytes_per_s / 1e9:,.0f}",
             f"{(a.bf16_flops_per_s or a.fp16_flops_per_s or 0) / 1e12:,.0f}", "16 bits",
             "" if a.plannable else a.refused_because)
            for a in devices
        ]  # fmt: skip
        return found + [
            (f"cpu:{c.id}", c.name, "–", f"{c.mem_bandwidth_bytes_per_s / 1e9:,.0f}",
             f"{c.fp32_flops_per_s / 1e12:.1f}", "32 bits", "")
            for c in processors
        ]  # fmt: skip

    def data() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {
                "id": a.id, "name": a.name, "memory_bytes": gpu_share_bytes(a),
                "mem_bandwidth_bytes_per_s": a.mem_bandwidth_bytes_per_s,
                "flops_16_bit_per_s": a.bf16_flops_per_s or a.fp16_flops_per_s, "plannable": a.plannable,
                "refused_because": None if a.plannable else a.refused_because, "aliases": list(a.aliases),
            }
            for a in devices
        ]  # fmt: skip
        return found + [
            {
                "id": f"cpu:{c.id}", "name": c.name, "memory_bytes": None,
                "mem_bandwidth_bytes_per_s": c.mem_bandwidth_bytes_per_s, "flops_32_bit_per_s": c.fp32_flops_per_s,
                "plannable": True, "refused_because": None, "aliases": list(c.aliases),
            }
            for c in processors
        ]  # fmt: skip

    _rows(output, columns, rows, data)
    _say_if_none([*devices, *processors], containing, "device")


@hardware.command("show", cls=Verb, epilog="planner hardware show 2xA100")
def show_hardware(name: Name, output: opt.OutputOption = opt.Output.yaml) -> None:
    """One accelerator, CPU (cpu:NAME) or machine (2xA100, aws:p5.48xlarge) with its sources."""
    from planner.sources.catalog import load
    from planner.sources.machines import resolve_machine

    machine = resolve_machine(load(), name)
    single = machine.count == 1 and machine.instance is None and machine.accelerator is not None
    _record(output, machine.accelerator if single and machine.accelerator else machine)


@engines.command("list", cls=Verb, epilog="planner engines list -o json")
def list_engines(output: opt.OutputOption = opt.Output.table) -> None:
    """Every engine release: lifecycle and platforms."""
    from planner.report.layout import Column
    from planner.sources.catalog import load

    releases = load().releases()
    columns = (Column("engine"), Column("version"), Column("lifecycle"), Column("platforms", loose=True))
    platforms = [list(dict.fromkeys([*(i.platform for i in r.images), *r.native_platforms])) for r in releases]

    def rows() -> list[tuple[str, ...]]:
        return [
            (r.engine, r.version, r.lifecycle.status, ", ".join(p)) for r, p in zip(releases, platforms, strict=True)
        ]

    def data() -> list[dict[str, Any]]:
        return [
            {"engine": r.engine, "version": r.version, "lifecycle": r.lifecycle.status, "platforms": p}
            for r, p in zip(releases, platforms, strict=True)
        ]

    _rows(output, columns, rows, data)


@engines.command("show", cls=Verb, epilog="planner engines show vllm 0.26")
def show_engine(
    name: Name,
    version: Annotated[str, typer.Argument(help="A version; left out: the newest.")] = "",
    output: opt.OutputOption = opt.Output.yaml,
) -> None:
    """One release: defaults, images, support matrix, lifecycle, sources."""
    from planner.advise.versions import catalogued_release
    from planner.errors import UnknownNameError
    from planner.sources.catalog import load

    releases = load().releases(name.casefold())
    if not releases:
        raise UnknownNameError("engine", name, {r.engine for r in load().releases()})
    _record(output, catalogued_release(releases, version) if version else releases[0])


def _parameters(model: ModelSpec) -> str:
    """The model's own, and a prediction block's beside them: "671 B + 13.5 B MTP"."""
    from planner.estimate.tensors import loaded_parameters, prediction_parameters
    from planner.report.numbers import count

    predicted = prediction_parameters(model)
    return count(loaded_parameters(model)) + (f" + {count(predicted)} MTP" if predicted else "")


def _matches(text: str, identifier: str, names: tuple[str, ...]) -> bool:
    folded = text.casefold()
    return any(folded in name.casefold() for name in (identifier, *names))


def _rows(
    output: opt.Output,
    columns: Sequence[Column],
    rows: Callable[[], list[tuple[str, ...]]],
    data: Callable[[], list[dict[str, Any]]],
) -> None:
    """`rows` for people, `data` for programs."""

    def table(console: Console) -> None:
        from planner.report.layout import print_columns

        print_columns(console, columns, rows(), complete="-o json has all")

    emit(output, data, table)


def _say_if_none(found: Sequence[object], containing: str, kind: str) -> None:
    if not found:
        from planner.cli.emit import note

        note(f"no {kind} has {containing!a} in its name")


def _first(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" (+{more})" if more > 0 else "")


def _record(output: opt.Output, record: Spec) -> None:
    def data() -> dict[str, Any]:
        from planner.report.records import record_data

        return record_data(record, compact=output is not opt.Output.json)

    def table(console: Console) -> None:
        from planner.cli.emit import emit as again

        again(opt.Output.yaml, data, lambda _: None)

    emit(output, data, table)
