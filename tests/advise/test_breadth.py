"""Everything catalogued can be planned: each model on a sensible machine, each accelerator with a sensible model.

What is looked at is the outcome: it fits, it is no faster than the hardware allows, it has room for what was
asked, and its files render (of one model per architecture and one device per generation; of all: slow).
"""

from __future__ import annotations

from functools import cache

import pytest

import planner
from planner.errors import InfeasibleError, UsageError
from planner.estimate.overheads.host import gpu_share_bytes
from planner.estimate.tensors import active_parameters, parameter_count
from planner.sources.catalog import load
from planner.sources.machines import resolve_machine
from planner.spec.hardware import Accelerator, Cpu, Instance, Machine
from planner.spec.model import ModelSpec
from planner.units import GIB

CATALOG = load()
MODELS = CATALOG.models()
ACCELERATORS = tuple(a for a in CATALOG.accelerators() if a.plannable)
LADDER = ("1xL4", "1xA100-SXM4-80GB", "1xH200", "2xH200", "4xH200", "8xH200", "16xH200", "32xH200")
FP4_LADDER = ("1xB200-SXM", "2xB200-SXM", "4xB200-SXM", "8xB200-SXM", "16xB200-SXM")
"""Formats of four-bit floats need Blackwell, or 16-bit kernels that not every architecture has."""
HEADROOM = 1.35
"""Weights times this, and RESERVE_BYTES, should fit: caches, activations, graphs."""
RESERVE_BYTES = 2_000_000_000
INPUT, OUTPUT, USERS = 256, 64, 4
FIRST_OF_TYPE = {m.id for m in {m.model_type: m for m in reversed(MODELS)}.values()}
FIRST_OF_GENERATION = {a.id for a in {(a.architecture, a.device_class): a for a in reversed(ACCELERATORS)}.values()}
UNSERVED = {
    "phi3small": "no release that is catalogued still runs it on CUDA",
    "arctic": "vLLM has dropped it, and its 16-bit weights need two hosts, which llama.cpp does not span",
}
"""Architectures that engines have dropped: asking says so."""


@cache
def machine(name: str) -> Machine:
    return resolve_machine(CATALOG, name)


def smallest(m: ModelSpec) -> str:
    """The first machine of the ladder that should hold the weights of `m` as they are published."""
    ladder = FP4_LADDER if m.quantization == "nvfp4" else LADDER
    need = parameter_count(m) * CATALOG.format(m.quantization).weight_bits / 8 * HEADROOM + RESERVE_BYTES
    return next((name for name in ladder if capacity_bytes(machine(name)) >= need), ladder[-1])


def capacity_bytes(m: Machine) -> int:
    assert m.accelerator is not None
    return m.accelerator.usable_memory_bytes * m.count


def look(rec: planner.Recommendation, model: ModelSpec, on: Machine, users: int) -> None:
    """What holds of every plan."""
    best = rec.best
    assert best.memory.fits
    assert best.limits.max_model_len >= INPUT + OUTPUT
    assert best.performance is not None
    rate = float(best.performance.output_tokens_per_s)
    assert rate > 0
    bits = CATALOG.format(best.quantization).weight_bits
    devices = on.count
    if on.accelerator is not None:
        held = sum(row.bytes for row in best.memory.rows if row.item != "free")
        assert held <= on.accelerator.usable_memory_bytes * 1.0001
        bandwidth = on.accelerator.mem_bandwidth_bytes_per_s * devices
    else:
        assert on.cpu is not None
        bandwidth = on.cpu.mem_bandwidth_bytes_per_s * on.sockets
    roof = users * bandwidth / (active_parameters(model) * bits / 8)
    assert rate <= roof, f"{rate:.0f} tokens/s, where reading the weights allows {roof:.0f}"
    assert best.performance.itl_ms is not None
    assert float(best.performance.itl_ms.p50) <= float(best.performance.itl_ms.p99) * 1.0001


def renders(rec: planner.Recommendation) -> None:
    files = rec.artifacts()
    assert {"plan.yaml", "PLAN.md", "bench.sh"} <= set(files)
    assert all(text.strip() for text in files.values())


def ask(m: ModelSpec) -> planner.Recommendation:
    return planner.recommend(
        model=m.id, gpus=smallest(m), quantization=m.quantization, concurrency=USERS, input_tokens=INPUT,
        output_tokens=OUTPUT,
    )  # fmt: skip


@pytest.mark.parametrize("m", MODELS, ids=lambda m: m.id)
def test_each_model_has_a_plan_on_the_smallest_machine_that_should_hold_it(m: ModelSpec) -> None:
    if m.modality == "embedding":
        with pytest.raises(UsageError, match="generates no text"):
            ask(m)
    elif m.model_type in UNSERVED:
        with pytest.raises(InfeasibleError, match=m.model_type):
            ask(m)
    else:
        rec = ask(m)
        look(rec, m, machine(smallest(m)), USERS)
        if m.id in FIRST_OF_TYPE:
            renders(rec)


@pytest.mark.slow
def test_the_files_of_every_model_render() -> None:
    for m in MODELS:
        if m.modality != "embedding" and m.model_type not in UNSERVED and m.id not in FIRST_OF_TYPE:
            renders(ask(m))


def fitting_model(memory_bytes: float) -> str:
    """A model whose 4-bit file takes less than a third of the memory, or 16-bit weights where there is plenty."""
    sizes = (("llama3.1-70b", 250), ("llama3.1-8b", 14), ("llama3.2-3b", 7), ("qwen2.5-1.5b", 4))
    return next((name for name, gib in sizes if memory_bytes >= gib * GIB), "qwen2.5-0.5b")


@pytest.mark.parametrize("a", ACCELERATORS, ids=lambda a: a.id)
def test_each_accelerator_serves_a_model_of_its_size(a: Accelerator) -> None:
    name = fitting_model(gpu_share_bytes(a))
    rec = planner.recommend(
        model=name, gpus=f"1x{a.id}", concurrency=USERS, input_tokens=INPUT, output_tokens=OUTPUT, objective="latency"
    )
    assert rec.best.hardware.accelerator == a.id
    look(rec, CATALOG.model(name), machine(f"1x{a.id}"), USERS)
    if a.id in FIRST_OF_GENERATION:
        renders(rec)


@pytest.mark.parametrize("c", CATALOG.cpus(), ids=lambda c: c.id)
def test_each_cpu_serves_a_small_model(c: Cpu) -> None:
    rec = planner.recommend(
        model="llama3.2-3b", gpus=f"cpu:{c.id}", ram="64GiB", concurrency=1, input_tokens=INPUT, output_tokens=OUTPUT
    )
    renders(rec)
    look(rec, CATALOG.model("llama3.2-3b"), resolve_machine(CATALOG, f"cpu:{c.id}", "64GiB"), 1)


def alike(i: Instance) -> tuple[object, ...]:
    """What tells machines apart: providers rent the same devices."""
    memory = i.ram_bytes if i.cpu else None
    return (i.accelerator or i.cpu, i.accelerator_count, i.accelerator_share, i.cores, memory)


PLANNABLE = tuple(
    i for i in CATALOG.instances() if i.cpu or (i.accelerator and CATALOG.accelerator(i.accelerator).plannable)
)
DISTINCT = tuple({alike(i): i for i in reversed(PLANNABLE)}.values())


def test_as_many_instances_as_we_say_can_be_planned_for() -> None:
    assert len(PLANNABLE) >= 380
    assert len({i.provider for i in PLANNABLE}) >= 12
    assert sum(i.cpu is not None for i in PLANNABLE) >= 90


@pytest.mark.parametrize("i", DISTINCT, ids=lambda i: f"{i.provider}-{i.id}")
def test_each_kind_of_instance_serves_a_model_of_its_size(i: Instance) -> None:
    on = machine(f"{i.provider}:{i.id}")
    users = USERS if on.accelerator else 1
    memory = gpu_share_bytes(on.accelerator) * on.count if on.accelerator else (on.ram_bytes or 0) / 8
    name = fitting_model(memory)
    rec = planner.recommend(
        model=name, gpus=on.label, concurrency=users, input_tokens=INPUT, output_tokens=OUTPUT, objective="latency"
    )
    look(rec, CATALOG.model(name), on, users)
    assert rec.best.hardware.accelerator == i.accelerator
    assert rec.best.cost is not None and rec.best.cost.usd_per_hour == i.usd_per_hour


@pytest.mark.parametrize("i", CATALOG.instances(), ids=lambda i: f"{i.provider}-{i.id}")
def test_each_instance_is_a_machine_with_its_price_or_says_why_not(i: Instance) -> None:
    if i not in PLANNABLE:
        with pytest.raises(UsageError, match=r"cannot be planned for: .{20,}") as refused:
            machine(f"{i.provider}:{i.id}")
        assert "not named" not in str(refused.value), "a reason names the device"
        return
    found = machine(f"{i.provider}:{i.id}")
    assert (found.count, found.usd_per_hour) == (i.accelerator_count or 1, i.usd_per_hour)
