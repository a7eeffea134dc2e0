"""The conditions that rows of the decision guide name in `when`: one small function each.

A predicate returns the inputs that made it true, for the trace, or None. Knows nothing of engines,
strengths or weights: those are in `catalog/guide.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from planner.advise.situation import PERSONAL_CONCURRENCY, Situation
from planner.spec.request import Requirement
from planner.units import gib

_GGUF_NAME = re.compile(r"gguf|i?q\d_", re.IGNORECASE)
"""gguf:Q4_K_M, and the short names that people use (Q4_K_M, IQ4_XS)."""

Inputs = dict[str, str]
Predicate = Callable[[Situation], Inputs | None]

PREDICATES: dict[str, Predicate] = {}
"""Every predicate by the name that the guide uses."""


def predicate(function: Predicate) -> Predicate:
    """Register `function` under its own name."""
    PREDICATES[function.__name__] = function
    return function


def _asked(situation: Situation, requirement: Requirement) -> Inputs | None:
    return {"require": requirement} if situation.requires(requirement) else None


def _devices(situation: Situation) -> str:
    return f"{situation.machine.label} ({situation.machine.device_class})"


# -- the workload ---------------------------------------------------------------------------------


@predicate
def serves_many_users(s: Situation) -> Inputs | None:
    """More requests at once than a personal tool is meant for, or an open arrival process."""
    if not s.many_users:
        return None
    if s.request.request_rate is not None:
        return {"request_rate": f"{s.request.request_rate:g}/s"}
    origin = "asked" if s.request.concurrency is not None else f"default for {s.machine.device_class} devices"
    return {"concurrency": f"{s.concurrency} ({origin}), above {PERSONAL_CONCURRENCY}"}


@predicate
def personal_machine_few_users(s: Situation) -> Inputs | None:
    """A laptop, desktop or board, and no more users than it has people in front of it."""
    if s.many_users or s.machine.device_class not in ("consumer", "embedded", "apple", "integrated", "cpu"):
        return None
    return {"device": _devices(s), "concurrency": str(s.concurrency)}


@predicate
def objective_throughput(s: Situation) -> Inputs | None:
    """Tokens per second are what counts."""
    return {"objective": s.objective} if s.objective == "throughput" else None


@predicate
def objective_cost(s: Situation) -> Inputs | None:
    """Tokens per dollar are what counts."""
    if s.request.cheapest:
        return {"cheapest": "true"}
    return {"objective": s.objective} if s.objective == "cost" else None


@predicate
def gguf_only(s: Situation) -> Inputs | None:
    """Nothing but GGUF is left of the weight formats."""
    asked = s.request.quantization or ""
    if s.quantization_kinds == {"gguf"} or (not s.quantization_kinds and _GGUF_NAME.match(asked)):
        return {"quantization": asked or "gguf"}
    return None


# -- the machine ----------------------------------------------------------------------------------


@predicate
def apple_silicon(s: Situation) -> Inputs | None:
    """The model runs on Metal."""
    return {"device": _devices(s)} if s.machine.platform == "metal" else None


@predicate
def no_gpu(s: Situation) -> Inputs | None:
    """There is no accelerator."""
    return {"device": s.machine.label} if s.machine.accelerator is None else None


@predicate
def gaudi(s: Situation) -> Inputs | None:
    """Intel Gaudi accelerators."""
    return {"device": _devices(s)} if s.machine.platform == "gaudi" else None


@predicate
def amd_gpu(s: Situation) -> Inputs | None:
    """AMD GPUs under ROCm."""
    return {"device": _devices(s)} if s.machine.platform == "rocm" else None


@predicate
def server_device(s: Situation) -> Inputs | None:
    """A data-centre or workstation accelerator."""
    return {"device": _devices(s)} if s.machine.device_class in ("datacenter", "workstation") else None


@predicate
def several_devices(s: Situation) -> Inputs | None:
    """More than one accelerator, or the user asked for them to work together."""
    if s.requires("multi_gpu"):
        return {"require": "multi_gpu"}
    return {"devices": str(s.machine.count)} if s.machine.accelerator and s.machine.count > 1 else None


@predicate
def moe_on_several_devices(s: Situation) -> Inputs | None:
    """Experts could be spread over devices."""
    if s.model.is_moe and s.machine.accelerator and s.machine.count > 1:
        return {"model": s.model.id, "devices": str(s.machine.count)}
    return None


@predicate
def model_spans_nodes(s: Situation) -> Inputs | None:
    """One copy needs the accelerators of more than one host, or the user asked for that."""
    if s.requires("multi_node"):
        return {"require": "multi_node"}
    smallest, node = s.smallest_weight_bytes, s.node_memory_bytes
    if smallest is None or s.machine.accelerator is None or s.machine.count <= s.machine.devices_per_node:
        return None
    return {"weights": gib(smallest), "one_node": gib(node)} if smallest > node else None


@predicate
def exceeds_device_memory(s: Situation) -> Inputs | None:
    """Even the smallest allowed weights are larger than all accelerators together."""
    accelerator, smallest = s.machine.accelerator, s.smallest_weight_bytes
    if accelerator is None or smallest is None:
        return None
    total = accelerator.usable_memory_bytes * s.machine.count
    return {"weights": gib(smallest), "devices": gib(total)} if smallest > total else None


@predicate
def blackwell_or_newer(s: Situation) -> Inputs | None:
    """An NVIDIA GPU of compute capability 10.0 or later."""
    sm = s.machine.accelerator.sm if s.machine.accelerator else None
    return {"compute_capability": f"{sm / 10:.1f}"} if sm is not None and sm >= 100 else None


# -- what the user named --------------------------------------------------------------------------


@predicate
def asks_openai(s: Situation) -> Inputs | None:
    """A drop-in replacement for the OpenAI API."""
    return _asked(s, "openai")


@predicate
def asks_kubernetes(s: Situation) -> Inputs | None:
    """Deployment on Kubernetes."""
    return _asked(s, "kubernetes")


@predicate
def asks_openshift(s: Situation) -> Inputs | None:
    """Deployment on OpenShift."""
    return _asked(s, "openshift")


@predicate
def asks_tool_calling(s: Situation) -> Inputs | None:
    """Function calls parsed by the server."""
    return _asked(s, "tool_calling")


@predicate
def asks_lora(s: Situation) -> Inputs | None:
    """Adapters served beside the base model."""
    return _asked(s, "lora")


@predicate
def asks_speculative(s: Situation) -> Inputs | None:
    """Speculative decoding."""
    return _asked(s, "speculative")


@predicate
def asks_prefix_caching(s: Situation) -> Inputs | None:
    """KV of shared prompt prefixes kept between requests."""
    return _asked(s, "prefix_caching")


@predicate
def asks_hf_hub(s: Situation) -> Inputs | None:
    """Work inside the Hugging Face ecosystem."""
    return _asked(s, "hf_hub")


@predicate
def asks_managed(s: Situation) -> Inputs | None:
    """A managed endpoint of Hugging Face."""
    return _asked(s, "managed")


@predicate
def asks_grammar(s: Situation) -> Inputs | None:
    """Output that a grammar or JSON schema guarantees."""
    return _asked(s, "grammar")


@predicate
def asks_watermark(s: Situation) -> Inputs | None:
    """Watermarked tokens."""
    return _asked(s, "watermark")


@predicate
def asks_simplest_setup(s: Situation) -> Inputs | None:
    """One command and no configuration."""
    return _asked(s, "simple")


@predicate
def asks_prototype(s: Situation) -> Inputs | None:
    """A prototype, before production."""
    return _asked(s, "prototype")


@predicate
def asks_private_local(s: Situation) -> Inputs | None:
    """Inference on one's own machine, nothing leaves it."""
    return {"require": s.personal} if s.personal in ("local", "offline") else None


@predicate
def asks_isolated_server(s: Situation) -> Inputs | None:
    """No network, on a server with several accelerators."""
    if s.requires("offline") and s.machine.count > 1:
        return {"require": "offline", "devices": str(s.machine.count)}
    return None
