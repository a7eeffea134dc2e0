"""The checks that decide claims of the seed text: one small function each, named by the data.

Each returns a verdict and the evidence for it, from the catalogs, the engines' flag lists and the
planner's own arithmetic. Knows nothing of the claims themselves (`catalog/seed_checks.yaml`) or of
how they are told (`seed.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from planner.errors import InfeasibleError, UnknownNameError
from planner.sources.catalog import load
from planner.spec.claim import Verdict
from planner.units import ceil_div, gib

if TYPE_CHECKING:
    from planner.spec.engine import EngineRelease
    from planner.spec.plan import Configuration, Plan

LITTLE_TOLERANCE = 1.25
"""How far users ÷ latency may exceed a throughput before they contradict each other."""
SHORTEST_ANSWER_TOKENS = 32
"""Answers shorter than this are no chat; a figure that needs them is of another run."""
SHARE_TOLERANCE = 0.03
"""How far a share of memory may be from a published percentage, in parts of one."""
BLOCK_WASTE = 0.05
WORKLOAD_TOLERANCE = 1.5
"""How far a published figure may be outside of what the estimates span."""
USERS = 128
BENCH_DEVICE, BENCH_MODEL = "1xA100-80GB", "llama3-8b"
WORKLOADS = ((128, 128), (512, 128), (512, 512), (1024, 256))
"""(input, output) tokens that an unpublished benchmark may have used."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and the figures that show it."""

    verdict: Verdict
    evidence: str


Check = Callable[..., Finding]
CHECKS: dict[str, Check] = {}
"""Every check by the name that the data uses."""


def check(function: Check) -> Check:
    """Register `function` under its own name."""
    CHECKS[function.__name__] = function
    return function


def _verdict(holds: bool) -> Verdict:
    return "holds" if holds else "contradicted"


# -- facts about engines --------------------------------------------------------------------------


def _release(engine: str) -> EngineRelease:
    return load().releases(engine)[0]


@check
def capability(
    *,
    engine: str,
    has: Sequence[str] = (),
    lacks: Sequence[str] = (),
    partly: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> Finding:
    """`has` are present and `lacks` absent. `partly` (capabilities) and `settings` (defaults) that
    exist make a plain "no" out of date."""
    release = _release(engine)
    wrong = [c for c in has if not release.has(c)] + [c for c in lacks if release.has(c)]
    since = [c for c in partly if release.has(c)]
    since += [s for s in settings if getattr(release.defaults, s) is not None]
    told = [f"{c}: {'yes' if release.has(c) else 'no'}" for c in (*has, *lacks)] + [f"but {s}" for s in since]
    evidence = f"{engine} {release.version}: {', '.join(told)}"
    return Finding("contradicted" if wrong else "changed" if since else "holds", evidence)


@check
def maintained(*, engine: str) -> Finding:
    """The engine still gets features and fixes."""
    lifecycle = _release(engine).lifecycle
    since = f" since {lifecycle.since}" if lifecycle.since else ""
    return Finding("holds" if lifecycle.status == "active" else "changed", f"{lifecycle.status}{since}")


@check
def platforms(*, engine: str, platforms: Sequence[str]) -> Finding:
    """Exactly these platforms have an image or a build, over all catalogued releases."""
    releases = load().releases(engine)
    found = {i.platform for r in releases for i in r.images} | {p for r in releases for p in r.native_platforms}
    missing, more = set(platforms) - found, sorted(found - set(platforms))
    evidence = f"catalogued: {', '.join(sorted(found))}"
    return Finding("contradicted" if missing else "changed" if more else "holds", evidence)


@check
def formats(*, engine: str, formats: Sequence[str], absent: Sequence[str] = ()) -> Finding:
    """Each of `formats` has a kernel (in the core, or in a plugin: changed); `absent` ones have none.

    A format that the claim calls absent altogether and that exists in another form is listed first.
    """
    release = _release(engine)
    via = {f: {s.via for s in release.support if s.quantization == f} for f in (*formats, *absent)}
    wrong = [f for f in formats if not via[f]] + [f for f in absent if via[f]]
    plugins = sorted({v for f in formats for v in via[f]} - {"core"})
    told = [f"{f}: {' or '.join(sorted(via[f])) or 'none'}" for f in via]
    evidence = f"{engine} {release.version}: {', '.join(told)}"
    if wrong:
        return Finding("contradicted", evidence)
    return Finding("changed" if plugins or (absent and formats) else "holds", evidence)


@check
def licensed(*, engine: str, license: str) -> Finding:
    """The release's licence."""
    release = _release(engine)
    return Finding(_verdict(release.license == license), f"{engine} {release.version}: {release.license}")


@check
def default_on(*, engine: str, setting: str) -> Finding:
    """A yes-or-no default of the release is yes."""
    release = _release(engine)
    value = getattr(release.defaults, setting)
    return Finding(_verdict(value is True), f"{engine} {release.version}: {setting} is {value} by default")


@check
def command(*, engine: str, argv: Sequence[str], instead: str = "") -> Finding:
    """The release's own parser would take these arguments; `instead` is today's way to write them."""
    from planner.sources.flags import check_flags, flag_list

    release = _release(engine)
    if flag_list(release) is None:
        return Finding("contradicted", f"{engine} {release.version} has no launcher flags")
    problems = check_flags(release, argv)
    if problems:
        return Finding("contradicted", "; ".join(problems))
    flags = ", ".join(a for a in argv if a.startswith("--"))
    return Finding("changed" if instead else "holds", f"{engine} {release.version} takes {flags}" + _today(instead))


def _today(instead: str) -> str:
    return f"; today: {instead}" if instead else ""


@check
def model_name(*, name: str) -> Finding:
    """A Hub id is exactly the one of the catalog."""
    catalog = load()
    try:
        model = catalog.model(name)
    except UnknownNameError as error:
        return Finding("changed" if error.suggestions else "contradicted", str(error))
    return Finding("holds" if model.id == name else "changed", f"the repository is {model.id}")


@check
def ollama_tag(*, model: str, tag: str) -> Finding:
    """What the Ollama library calls `tag` is this model."""
    catalog = load()
    meant = catalog.model(tag)
    return Finding(_verdict(meant.id == catalog.model(model).id), f"{tag} is {meant.id}")


# -- arithmetic on published figures --------------------------------------------------------------


@check
def little(*, users: float, itl_ms: float, tokens_per_s: float) -> Finding:
    """Users that all decode at one ITL produce users ÷ ITL tokens per second (Little's law)."""
    implied = users / itl_ms * 1000
    decoding = tokens_per_s * itl_ms / 1000
    evidence = (
        f"{users:.0f} users ÷ {itl_ms:g} ms = {implied:,.0f} tokens/s, against {tokens_per_s:,.0f};"
        f" {tokens_per_s:,.0f} tokens/s at {itl_ms:g} ms are {decoding:.1f} users decoding"
    )
    return Finding(_verdict(implied <= LITTLE_TOLERANCE * tokens_per_s), evidence)


@check
def waiting(*, users: float, itl_ms: float, tokens_per_s: float, ttft_ms: float) -> Finding:
    """In a closed loop an answer of n tokens takes n × users ÷ throughput, of which n × ITL is
    decoding; the rest is the wait for the first token. The longest answer that the TTFT allows."""
    wait_per_token_s = users / tokens_per_s - itl_ms / 1000
    if wait_per_token_s <= 0:
        return Finding("holds", "no user waits")
    longest = ttft_ms / 1000 / wait_per_token_s
    evidence = (
        f"the mean wait is {wait_per_token_s * 1000:.1f} ms per token of an answer ({wait_per_token_s * 256:.1f} s for"
        f" 256 tokens), so {ttft_ms:,.0f} ms allows answers of {longest:.1f} tokens"
    )
    return Finding(_verdict(longest >= SHORTEST_ANSWER_TOKENS), evidence)


@check
def block_waste(*, engine: str, tokens: int) -> Finding:
    """KV memory that a sequence of `tokens` leaves unused in its last block stays below 5 %."""
    release = _release(engine)
    block = release.defaults.block_size or 1
    waste = (block - 1) / (ceil_div(tokens, block) * block + block - 1)
    return Finding(_verdict(waste < BLOCK_WASTE), f"blocks of {block} tokens: at most {waste:.1%} of {tokens:,}")


# -- the planner's own estimates ------------------------------------------------------------------


@cache
def _estimated(**fields: Any) -> Configuration:
    from planner.advise.single import estimate_one

    configuration, _ = estimate_one(load(), _brief(**fields))
    return configuration


@cache
def _planned(**fields: Any) -> Plan:
    from planner.advise.recommend import recommend

    return recommend(load(), _brief(**fields))


def _brief(*, model: str, gpus: str, ram: str | None = None, **fields: Any) -> Any:
    from planner.advise.brief import make_brief
    from planner.sources.machines import resolve_machine
    from planner.sources.models import resolve_model
    from planner.spec.request import Request

    catalog = load()
    request = Request(model=model, gpus=gpus, ram=ram, **fields)
    return make_brief(request, resolve_model(catalog, model)[0], resolve_machine(catalog, gpus, ram))


@check
def fits(*, expect: bool, **fields: Any) -> Finding:
    """The configuration fits (or not, as claimed). With layers left in host memory it fits, changed."""
    try:
        configuration = _estimated(**{"concurrency": 1, **fields})
    except InfeasibleError as error:
        return Finding(_verdict(not expect), str(error))
    memory, on_cpu = configuration.memory, configuration.hardware.accelerator is None
    where = "host memory" if on_cpu else "memory per device"
    evidence = f"weights {gib(memory.bytes_of('weights'))} of {gib(memory.device_bytes)} {where}, "
    if not memory.fits:
        return Finding(_verdict(not expect), evidence + f"short by {gib(memory.shortfall_bytes)}")
    on_device, total = memory.offloaded_layers, memory.total_layers
    evidence += f"KV for {memory.kv_cache_tokens:,} tokens"
    if not on_cpu and on_device is not None and total is not None and on_device < total:
        return Finding("changed", evidence + f", {on_device} of {total} layers on the GPU")
    if not expect:
        return Finding("changed", evidence + ": it fits")
    return Finding("holds", evidence)


@check
def runs(*, engine: str, **fields: Any) -> Finding:
    """The engine has a configuration that runs there at all."""
    try:
        plan = _planned(engine=engine, **fields)
    except InfeasibleError as error:
        return Finding("contradicted", str(error))
    memory = plan.best.memory
    layers = f", {memory.offloaded_layers} of {memory.total_layers} layers on the GPU" if memory.total_layers else ""
    return Finding("holds", f"{plan.best.quantization}, weights {gib(memory.bytes_of('weights'))}{layers}")


@check
def chosen(*, engine: str, **fields: Any) -> Finding:
    """The guide chooses the engine; an engine that is no longer kept up makes it `changed`."""
    try:
        plan = _planned(**fields)
    except InfeasibleError as error:
        return Finding("contradicted", str(error))
    best, lifecycle = plan.best.engine, plan.resolved.engine.lifecycle
    rows = [s.rule for s in plan.trace if s.engine == engine and s.strength in ("require", "prefer")]
    evidence = f"chosen: {best.name} {best.version} ({', '.join(rows) or 'no row'})"
    if best.name != engine:
        return Finding("contradicted", evidence)
    return Finding("holds" if lifecycle.status == "active" else "changed", f"{evidence}; {lifecycle.status}")


def _bench(engine: str, quantization: str, **fields: Any) -> Configuration:
    asked = {"concurrency": USERS, "max_model_len": 2048, **fields}
    return _estimated(model=BENCH_MODEL, gpus=BENCH_DEVICE, engine=engine, quantization=quantization, **asked)


def _span(engine: str, quantization: str, metric: str) -> tuple[float, float]:
    """Lowest and highest estimate of a metric (its median, where it is one over requests) over `WORKLOADS`."""
    values = []
    for input_tokens, output_tokens in WORKLOADS:
        performance = _bench(engine, quantization, input_tokens=input_tokens, output_tokens=output_tokens).performance
        assert performance is not None, "the benchmark's configuration fits"
        found = getattr(performance, metric)
        values.append(float(getattr(found, "p50", found)))
    return min(values), max(values)


@check
def serving(*, engine: str, quantization: str, metric: str, value: float) -> Finding:
    """A published figure is within `WORKLOAD_TOLERANCE` of what we estimate for usual lengths."""
    low, high = _span(engine, quantization, metric)
    unit = "ms" if metric.endswith("_ms") else "tokens/s"
    evidence = f"estimated {_two_digits(low)} to {_two_digits(high)} {unit} over {len(WORKLOADS)} usual workloads"
    return Finding(_verdict(low / WORKLOAD_TOLERANCE <= value <= high * WORKLOAD_TOLERANCE), evidence)


@check
def faster(*, engine: str, other: str, at_least: float) -> Finding:
    """Throughput of `engine` ÷ that of `other` at the seed's load."""
    rates = []
    for name in (engine, other):
        configuration = _bench(name, "gguf:Q4_K_M" if name == "ollama" else "bf16")
        assert configuration.performance is not None, "the benchmark's configuration fits"
        rates.append(configuration.performance.output_tokens_per_s.value)
    ratio = rates[0] / rates[1]
    return Finding(_verdict(ratio >= at_least), f"{engine} ÷ {other} = {_two_digits(ratio)}")


@check
def slots(*, engine: str, quantization: str, at_least: int) -> Finding:
    """Requests that run at once: the engine's default, and what KV memory holds at 1,280 tokens."""
    configuration = _bench(engine, quantization, concurrency=USERS)
    default = configuration.limits.max_num_seqs
    admitted = _release(engine).defaults.max_concurrent_requests or default
    room = configuration.memory.kv_cache_tokens // 1280
    evidence = f"default {min(default, admitted)}; KV for {room} sequences of 1,280 tokens"
    if min(default, admitted) >= at_least and room >= at_least:
        return Finding("holds", evidence)
    return Finding("changed", evidence)


@check
def memory_binds(*, engine: str, quantization: str) -> Finding:
    """At the seed's load the KV cache of `engine` is too small for all users at 1,280 tokens each."""
    room = _bench(engine, quantization).memory.kv_cache_tokens // 1280
    evidence = f"{engine} holds {room} sequences of 1,280 tokens; the load has {USERS}"
    return Finding(_verdict(room < USERS), evidence)


@check
def efficiency(*, engine: str, quantization: str, percent: float) -> Finding:
    """Weights and KV cache as a share of the device's memory."""
    memory = _bench(engine, quantization).memory
    share = (memory.bytes_of("weights") + memory.bytes_of("kv_cache")) / memory.device_bytes
    return Finding(_verdict(abs(share - percent / 100) <= SHARE_TOLERANCE), f"weights and KV are {share:.0%}")


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.10g}"


# -- manifests ------------------------------------------------------------------------------------


@check
def manifest(*, engine: str, text: str) -> Finding:
    """A Deployment that the API server takes and whose pod starts; beside the one that we write."""
    import yaml

    document = yaml.safe_load(text)
    spec, pod = document["spec"], document["spec"]["template"]
    container = pod["spec"]["containers"][0]
    labels = bool(pod.get("metadata", {}).get("labels"))
    needed = {"spec.selector": "selector" in spec, "spec.template.metadata.labels": labels}
    refused = [name for name, present in needed.items() if not present]
    ours = _our_deployment(engine)["spec"]["template"]["spec"]
    lacking = sorted(set(ours["containers"][0]) - set(container)) + sorted(set(ours) - set(pod["spec"]))
    if container["image"].endswith(":latest"):
        lacking.append(f"a pinned image ({ours['containers'][0]['image']})")
    flags = command(engine=engine, argv=container["args"])
    told = [f"missing: {', '.join(refused)}"] if refused else []
    told += [f"ours also has {', '.join(dict.fromkeys(lacking))}", f"its flags: {flags.evidence}"]
    return Finding("contradicted" if refused or flags.verdict == "contradicted" else "changed", "; ".join(told))


@cache
def _our_deployment(engine: str) -> dict[str, Any]:
    """The Deployment that the planner writes for the seed's model on one GPU."""
    import yaml

    from planner.render import render

    plan = _planned(model=BENCH_MODEL, gpus=BENCH_DEVICE, engine=engine)
    documents = yaml.safe_load_all(render(plan, ("kubernetes",))["k8s.yaml"])
    found: dict[str, Any] = next(d for d in documents if d and d["kind"] == "Deployment")
    return found
