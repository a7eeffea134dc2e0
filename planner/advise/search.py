"""No machine was named: try every catalogued accelerator, or every priced instance.

Keeps the cheapest way to hold the load: by price per output token where prices are known, else by
the fewest and smallest devices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from planner.advise.brief import make_brief
from planner.advise.candidates import ADVISED_ENGINES, enumerate_candidates, releases_for
from planner.advise.evaluate import Assessment, assess
from planner.advise.finals import per_million_tokens
from planner.advise.rank import excess, ordered
from planner.errors import InfeasibleError, PlannerError
from planner.estimate.tensors import active_parameters, parameter_count
from planner.records import dataclass
from planner.sources.local_calibration import corrected
from planner.sources.machines import recent, resolve_machine
from planner.spec.engine import LAYER_SPLIT_ENGINES

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.advise.candidates import Candidate
    from planner.sources.catalog import Catalog
    from planner.spec.hardware import Instance, Machine
    from planner.spec.model import ModelSpec
    from planner.spec.plan import Plan, Remedy
    from planner.spec.request import Request

_SERVER_CLASSES = ("datacenter", "workstation", "consumer")
_COUNTS = (1, 2, 4, 8)
_MAX_CANDIDATES = 6
"""Formats tried on each machine: the best quality first, until one meets the targets."""


_SERVED = 32
"""Users at once when the request names none: one who rents serves many."""


_CONFIRMED = 8
"""Machines that are planned in full before the search gives up."""


_BLUR = 0.5
"""By so much (log2) the quick look may see a miss as larger than simulation does."""


_COMPARED = 4
_NEARLY = 1.15
"""At most so many machines, whose price by the quick look is within this of the first's, are planned and compared."""


@dataclass(frozen=True, slots=True)
class Option:
    """One machine that works, with its quick figures."""

    machine: Machine
    assessment: Assessment
    meets_slo: bool
    usd_per_hour: float | None
    over: float = 0.0
    """By how much what was asked for is missed, as `rank.excess` counts; 0 where only our own defaults are."""

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """At the planned load; None without a price."""
        if self.usd_per_hour is None:
            return None
        return self.usd_per_hour / (self.assessment.figures.output_tokens_per_s * 3600) * 1e6


def search(catalog: Catalog, model: ModelSpec, request: Request) -> tuple[Option, ...]:
    """Machines that hold the load, best first. Raises InfeasibleError when none does."""
    priced = request.cheapest or request.budget_usd_per_hour is not None
    options = _rented(catalog, model, request) if priced else _owned(catalog, model, request)
    if not options:
        if request.budget_usd_per_hour is None:
            raise InfeasibleError(f"no machine in the catalog can serve {model.id} as asked")
        dearer = _least_budget(catalog, model, request)
        raise InfeasibleError(f"no machine within that budget can serve {model.id} as asked", dearer)
    return tuple(sorted(options, key=_order))


def _owned(catalog: Catalog, model: ModelSpec, request: Request) -> list[Option]:
    """Options among the accelerators, each with the fewest devices that hold the load and fewer."""
    options: list[Option] = []
    enough: set[str] = set()
    seen: _Seen = {}
    for label, device in _accelerators(catalog, model):
        if device in enough:
            continue  # a smaller count of the same device already holds the load
        option = _option(catalog, model, request, label, seen)
        if option is not None:
            options.append(option)
            if option.meets_slo:
                enough.add(device)
    return options


def _rented(catalog: Catalog, model: ModelSpec, request: Request) -> list[Option]:
    """Options among the priced instances; those of an old price count only when nothing else serves the model."""
    budget = request.budget_usd_per_hour
    every = [i for i in catalog.instances() if i.usd_per_hour]
    new = {(i.provider, i.id) for i in recent(every)}
    affordable = [i for i in every if budget is None or (i.usd_per_hour or 0.0) <= budget]
    fresh = [i for i in affordable if (i.provider, i.id) in new]
    stale = [i for i in affordable if (i.provider, i.id) not in new]
    return _of_instances(catalog, model, request, fresh) or _of_instances(catalog, model, request, stale)


def _of_instances(catalog: Catalog, model: ModelSpec, request: Request, rows: list[Instance]) -> list[Option]:
    """Options among `rows`; of those with CPUs alone, the ones that hold the targets and may be cheaper per token."""
    options: list[Option] = []
    seen: _Seen = {}
    for i in (i for i in rows if i.accelerator is not None):
        options += filter(None, (_option(catalog, model, request, f"{i.provider}:{i.id}", seen),))
    least = min((o.usd_per_million_output_tokens or math.inf for o in options if o.meets_slo), default=math.inf)
    for i in (i for i in rows if i.cpu is not None):
        most = _most_tokens_per_s(catalog, model, request, i)
        if (i.usd_per_hour or 0.0) / (most * 3600) * 1e6 < _NEARLY * least:
            option = _option(catalog, model, request, f"{i.provider}:{i.id}", seen)
            options += [option] if option is not None and option.meets_slo else []
    return options


def _most_tokens_per_s(catalog: Catalog, model: ModelSpec, request: Request, instance: Instance) -> float:
    """Output that no CPU instance exceeds: its sockets' whole bandwidth, for weights of two bits read once a step."""
    assert instance.cpu is not None
    cpu = catalog.cpu(instance.cpu)
    sockets = -(-(instance.cores or cpu.cores) // cpu.cores)
    users = request.concurrency or _SERVED
    return users * sockets * cpu.mem_bandwidth_bytes_per_s / (active_parameters(model) / 4)


def _least_budget(catalog: Catalog, model: ModelSpec, request: Request) -> tuple[Remedy, ...]:
    """The cheapest instance that serves the model at all, as a way out of a budget that is too small."""
    from planner.advise.command import command
    from planner.spec.plan import Remedy

    free = request.model_copy(update={"budget_usd_per_hour": None, "cheapest": True})
    try:
        found = min(search(catalog, model, free), key=lambda o: (o.usd_per_hour or math.inf, o.machine.label))
    except InfeasibleError:
        return ()
    assert found.usd_per_hour is not None
    budget = math.ceil(found.usd_per_hour * 100) / 100
    wider = request.model_copy(update={"budget_usd_per_hour": budget})
    figures = {"price": f"{found.usd_per_hour:.2f} USD/h"}
    return (Remedy(action="a larger budget", detail=found.machine.label, command=command(wider), figures=figures),)


def search_and_advise(catalog: Catalog, model: ModelSpec, request: Request, notes: tuple[str, ...]) -> Plan:
    """The plan on the best machine that a full look confirms. Raises InfeasibleError when none does."""
    from planner.advise.recommend import TooSlowError, recommend

    options = search(catalog, model, request)
    if request.concurrency is None:
        request = request.model_copy(update={"concurrency": _SERVED})
    failure: InfeasibleError | None = None
    nearest: tuple[float, Brief] | None = None
    missing: Plan | None = None
    found: list[Plan] = []
    looked = 0
    missed: list[Assessment] = []
    for i, option in enumerate(options):
        if looked == _CONFIRMED:
            break
        if any(option.assessment is a for a in missed):
            continue  # the same devices of another provider
        looked += 1
        if found and not _close(option, options[0], len(found)):
            break
        if nearest is not None and not option.meets_slo and option.over > nearest[0] + _BLUR:
            break  # what comes misses by more
        others = ", ".join(_told(o) for j, o in enumerate(options[: i + 5]) if j > i)
        said = f"searched {len(options)} machines that can serve it, by price per token; next best: {others or 'none'}"
        brief = make_brief(request, model, option.machine, (*notes, said))
        try:
            plan = recommend(catalog, brief, ladder=False)
        except TooSlowError as error:
            if nearest is None or error.over < nearest[0]:
                nearest = error.over, brief
            missed.append(option.assessment)
            continue
        except InfeasibleError as error:
            failure = failure or error
            continue
        if plan.best.meets_slo:
            found.append(plan)
        else:
            missing = missing or plan  # the targets are defaults, else recommend would have refused
    if found:
        return min(found, key=lambda p: per_million_tokens(p.best) or 0.0)
    if missing is not None:
        return missing
    if nearest is not None:
        return recommend(catalog, nearest[1])  # raises, now with the ways out
    assert failure is not None
    raise failure


def _close(option: Option, first: Option, confirmed: int) -> bool:
    """True when a full look at `option` may find it cheaper than `first`, whose quick figures are a little better."""
    ours, best = option.usd_per_million_output_tokens, first.usd_per_million_output_tokens
    return confirmed < _COMPARED and option.meets_slo and ours is not None and ours < _NEARLY * (best or 0.0)


def _told(option: Option) -> str:
    price = option.usd_per_million_output_tokens
    return option.machine.label + (f" (about {price:.3g} USD per million output tokens)" if price else "")


def _order(option: Option) -> tuple[object, ...]:
    accelerator = option.machine.accelerator
    per_token = option.usd_per_million_output_tokens
    tdp = (accelerator.tdp_w or 1000.0) if accelerator else 0.0
    return (
        not option.meets_slo,
        round(option.over, 2),
        per_token is None,
        per_token or 0.0,
        option.machine.count * tdp,
        option.machine.count,
        option.machine.label,
    )


def _accelerators(catalog: Catalog, model: ModelSpec) -> list[tuple[str, str]]:
    """(machine, accelerator id), counts ascending, without those too small for 4-bit weights."""
    least = parameter_count(model) // 2
    return [
        (f"{count}x{a.id}", a.id)
        for a in catalog.accelerators()
        if a.plannable and a.device_class in _SERVER_CLASSES
        for count in _COUNTS
        if count <= a.devices_per_node and count * a.usable_memory_bytes > least
    ]


_Seen = dict[tuple[object, ...], Assessment | None]
"""Quick looks by what they depend on: many providers rent the same devices."""


def _option(catalog: Catalog, model: ModelSpec, request: Request, label: str, seen: _Seen) -> Option | None:
    try:
        machine = corrected(resolve_machine(catalog, label, request.ram), request.local_calibration)
        server = request if request.concurrency else request.model_copy(update={"concurrency": _SERVED})
        brief = make_brief(server, model, machine)
    except PlannerError:
        return None
    alike = _alike(brief)
    if alike not in seen:
        try:
            seen[alike] = _quick_best(catalog, brief)
        except PlannerError:
            seen[alike] = None  # this machine cannot: no engine, no kernel, a layout it does not have
    best = seen[alike]
    if best is None:
        return None
    over = excess(best, brief)
    asked = brief.slo_is_explicit or brief.workload.request_rate is not None
    return Option(machine, best, not over, machine.usd_per_hour, over if asked else 0.0)


def _alike(brief: Brief) -> tuple[object, ...]:
    """What the quick look depends on. Host memory counts only where weights may lie in it."""
    machine = brief.machine
    a = machine.accelerator
    if a is None:
        assert machine.cpu is not None
        return (machine.cpu.id, machine.cpu.cores, machine.sockets, machine.ram_bytes)
    on_host = a.unified_memory or _wanted(brief) in LAYER_SPLIT_ENGINES
    devices = (a.id, a.usable_memory_bytes, machine.count, machine.devices_per_node, machine.instance is None)
    return (*devices, machine.ram_bytes if on_host else None)


def _wanted(brief: Brief) -> str:
    return brief.request.engine or ADVISED_ENGINES[0]


def _quick_best(catalog: Catalog, brief: Brief) -> Assessment | None:
    """The best of a few candidates that use the whole machine, lossless formats first."""
    wanted = _wanted(brief)
    releases, _ = releases_for(catalog, brief)
    releases = tuple(r for r in releases if r.engine == wanted) or releases[:1]
    candidates, _ = enumerate_candidates(catalog, brief, releases)
    count = brief.machine.count
    whole = [c for c in candidates if count in (c.parallelism.tensor, c.parallelism.replicas)]
    every = brief.request.kv_cache_dtype or brief.objective == "cost"
    whole = [c for c in whole or candidates if c.kv_name == "auto" or every]
    whole.sort(key=lambda c: (c.quantization.quality_rank, -c.parallelism.tensor, c.kv_format.quality_rank))
    fitting: list[Assessment] = []
    most = _MAX_CANDIDATES * (2 if every else 1)  # each format with each KV cache
    for candidate in [c for c in whole if _may_fit(c, brief)][: most * 2]:
        outcome = assess(candidate, brief, catalog.calibration)
        if isinstance(outcome, Assessment):
            fitting.append(outcome)
            if len(fitting) == most:
                break
    return ordered(fitting, brief)[0] if fitting else None


def _may_fit(candidate: Candidate, brief: Brief) -> bool:
    """False when the weights alone are larger than the devices; spares a ledger per hopeless candidate."""
    accelerator = brief.machine.accelerator
    if accelerator is None or candidate.release.engine in LAYER_SPLIT_ENGINES:
        return True
    least = parameter_count(brief.model) * candidate.quantization.weight_bits / 8 * 0.9
    return least < accelerator.usable_memory_bytes * candidate.parallelism.devices_per_replica
