"""Builds deployments for the speed tests: any model on any device, limits as given."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from planner.estimate.deployment import Deployment
from planner.sources.catalog import Catalog
from planner.spec.hardware import Accelerator, Machine
from planner.spec.plan import Limits, Parallelism


class Deployed(Protocol):
    """Signature of the `deployed` fixture."""

    def __call__(
        self, model: str, device: str | Accelerator, engine: str = ..., quantization: str = ..., **changes: Any
    ) -> Deployment: ...


def machine_of(catalog: Catalog, device: str | Accelerator, count: int, price: float | None = None) -> Machine:
    """`count` of one accelerator in one node, or the CPU of that name."""
    if isinstance(device, str) and device in {cpu.id for cpu in catalog.cpus()}:
        return Machine(label=device, accelerator=None, count=1, devices_per_node=1, cpu=catalog.cpu(device))
    a = catalog.accelerator(device) if isinstance(device, str) else device
    link, pcie, network = (catalog.interconnect(k) if k else None for k in (a.link, a.pcie, a.network))
    return Machine(
        label=f"{count}x{a.id}", accelerator=a, count=count, devices_per_node=max(count, a.devices_per_node), link=link,
        pcie=pcie, network=network, usd_per_hour=price,
    )  # fmt: skip


@pytest.fixture(scope="session")
def deployed(catalog: Catalog) -> Deployed:
    """(model, device, engine, quantization, tp=, pp=, dp=, replicas=, kv=, seqs=, step_tokens=, native=, slots=)."""

    def build(
        model: str, device: str | Accelerator, engine: str = "vllm", quantization: str = "bf16", **changes: Any
    ) -> Deployment:
        layout = Parallelism(
            tensor=changes.get("tp", 1), pipeline=changes.get("pp", 1), data=changes.get("dp", 1),
            replicas=changes.get("replicas", 1),
        )  # fmt: skip
        devices = layout.devices_per_replica * layout.replicas
        return Deployment(
            model=catalog.model(model), quantization=catalog.format(quantization),
            kv_format=catalog.kv_format(changes.get("kv", "bf16")),
            machine=changes.get("machine") or machine_of(catalog, device, devices),
            engine=catalog.releases(engine)[0], parallelism=layout, native_compute=changes.get("native", True),
            limits=Limits(
                max_model_len=32768, max_num_seqs=changes.get("seqs", 1024),
                max_num_batched_tokens=changes.get("step_tokens", 8192), num_parallel=changes.get("slots"),
                num_gpu=changes.get("gpu_layers"), host_memory_bytes=0, disk_bytes=0, load_seconds=0.0,
                startup_budget_seconds=0, termination_grace_seconds=0,
            ),
        )  # fmt: skip

    return build
