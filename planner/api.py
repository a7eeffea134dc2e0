"""The public functions. The command line is a shell over these; what they answer is in `answers`.

Every keyword is a field of `planner.spec.request.Request`; a wrong value raises UsageError with one
line, a request that nothing fulfils raises InfeasibleError with the ladder of ways out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.answers import Comparison, Estimate, Fits, Recommendation
from planner.errors import FormatError, UsageError, nearest

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.local import LocalCorrection
    from planner.spec.model import Checkpoint
    from planner.spec.plan import Plan
    from planner.spec.request import Request
    from planner.validate.accuracy import Report
    from planner.validate.simulate import Simulation
    from planner.validate.verdict import Verdict


def make_request(**fields: Any) -> Request:
    """A validated Request. Raises UsageError naming the field, the limit and what was given."""
    from pydantic import ValidationError

    from planner.spec.request import Request

    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return Request.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"] and first["type"] == "value_error":
            raise UsageError(str(first["ctx"]["error"])) from None
        name = ".".join(str(part) for part in first["loc"]) or "request"
        raise UsageError(f"{name}: {_limit(first)}") from None


def reading_failure(error: Exception) -> str:
    """Why a file could not be read, in words."""
    words = {
        "FileNotFoundError": "it does not exist",
        "IsADirectoryError": "it is a folder",
        "PermissionError": "permission denied",
        "UnicodeDecodeError": "it is not UTF-8 text",
    }
    return words.get(type(error).__name__, type(error).__name__)


def _limit(detail: Any) -> str:
    """One validation error as a clear line: the limit, what was given, the nearest valid value."""
    if detail["type"] == "extra_forbidden":
        return "not a field of a request; see `planner recommend --help`"
    given = ascii(detail.get("input"))
    words = (
        detail["msg"].removeprefix("Value error, ").split(", unable to parse")[0].replace("Input should be", "must be")
    )
    for long, plain in _PLAINLY.items():
        words = words.replace(long, plain)
    close = ""
    if detail["type"] == "literal_error":
        names = re.findall(r"'([^']+)'", detail["ctx"]["expected"])
        found = nearest(str(detail.get("input")), names, n=2)
        close = f"; nearest: {', '.join(found)}" if found else ""
    return f"{words}, not {given if len(given) <= 60 else given[:57] + '...'}{close}"


_PLAINLY = {
    "greater than or equal to": "at least", "less than or equal to": "at most", "greater than": "above",
    "a valid integer": "a whole number", "a valid number": "a number", "a valid string": "text",
}  # fmt: skip
"""What pydantic says, and how it reads shorter."""


def _notes(catalog: Catalog, request: Request, assumed: str | None) -> tuple[str, ...]:
    """What is assumed of the model, and of an engine version that is not catalogued. Raises UsageError."""
    notes = (assumed,) if assumed else ()
    if request.engine_version is None:
        return notes
    from planner.advise.versions import asked_release

    return (*notes, *asked_release(catalog, request))


def recommend(model: str | None = None, gpus: str | None = None, **options: Any) -> Recommendation:
    """What to deploy for `model` on `gpus` (None: search the catalog).

    Options are Request fields: concurrency, input_tokens, output_tokens (tokens), ttft_ms, itl_ms
    (milliseconds), objective, engine, quantization, require, …
    """
    return recommend_request(make_request(model=model or "", gpus=gpus, **options))


def recommend_request(request: Request) -> Recommendation:
    """As `recommend`, for a Request (a parsed request file, say)."""
    from planner.advise.brief import make_brief
    from planner.advise.recommend import recommend as advise
    from planner.advise.recommend import within_budget
    from planner.render import default_files
    from planner.sources.catalog import load
    from planner.sources.local_calibration import corrected
    from planner.sources.machines import resolve_machine
    from planner.sources.models import resolve_model

    catalog = load()
    model, assumed = resolve_model(catalog, request.model)
    notes = _notes(catalog, request, assumed)
    if model.adapter is not None:
        from planner.advise.features import with_adapter

        request, told = with_adapter(request, model)
        notes = (*notes, told)
    if request.gpus is None:
        from planner.advise.search import search_and_advise

        plan = search_and_advise(catalog, model, request, notes)
    else:
        machine = corrected(resolve_machine(catalog, request.gpus, request.ram), request.local_calibration)
        within_budget(request, machine)
        plan = advise(catalog, make_brief(request, model, machine, notes))
    return Recommendation(plan.model_copy(update={"artifacts": default_files(plan)}))


def estimate(
    model: str,
    gpus: str,
    *,
    engine: str | None = None,
    engine_version: str | None = None,
    quantization: str | None = None,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    data_parallel: int = 1,
    expert_parallel: int = 1,
    replicas: int = 1,
    kv_cache_dtype: str = "auto",
    max_model_len: int | None = None,
    gpu_memory_utilization: float | None = None,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | None = None,
    concurrency: int | None = None,
    input_tokens: int = 1024,
    output_tokens: int = 256,
    arrival: str = "closed_loop",
    request_rate: float | None = None,
    ram: str | None = None,
    **load: Any,
) -> Estimate:
    """Memory and speed of exactly this configuration; None means the engine's own default.

    Tokens are per request; `concurrency` is of the whole deployment; `load` are further fields of a request about
    its lengths, prefix, drafts and seed. A configuration that does not
    fit is an answer (`memory.fits` is False), one that no kernel or image exists for raises
    InfeasibleError.
    """
    from planner.advise.brief import make_brief
    from planner.advise.calibrated import calibrated_here
    from planner.advise.single import estimate_one
    from planner.sources.catalog import load as open_catalog
    from planner.sources.local_calibration import corrected
    from planner.sources.machines import resolve_machine
    from planner.sources.models import resolve_model

    request = make_request(
        model=model, gpus=gpus, ram=ram, engine=engine, engine_version=engine_version, quantization=quantization,
        tensor_parallel=tensor_parallel, pipeline_parallel=pipeline_parallel, data_parallel=data_parallel,
        expert_parallel=expert_parallel, replicas=replicas, kv_cache_dtype=kv_cache_dtype, max_model_len=max_model_len,
        gpu_memory_utilization=gpu_memory_utilization, max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens, concurrency=concurrency, input_tokens=input_tokens,
        output_tokens=output_tokens, arrival=arrival, request_rate=request_rate, **load,
    )  # fmt: skip
    catalog = open_catalog()
    spec, assumed = resolve_model(catalog, request.model)
    machine = corrected(resolve_machine(catalog, gpus, ram), request.local_calibration)
    brief = make_brief(request, spec, machine, _notes(catalog, request, assumed))
    configuration, notes = estimate_one(catalog, brief)
    return Estimate(configuration, (*brief.assumptions, *notes, *calibrated_here(machine, configuration)))


def fit(gpus: str, *, ram: str | None = None, **options: Any) -> Fits:
    """Every catalogued model that runs on `gpus` under the given load, best first."""
    from planner.advise.fit import fit as advise
    from planner.sources.catalog import load
    from planner.sources.local_calibration import corrected
    from planner.sources.machines import resolve_machine

    request = make_request(model="any", gpus=gpus, ram=ram, **options)
    catalog = load()
    return Fits(advise(catalog, corrected(resolve_machine(catalog, gpus, ram), request.local_calibration), request))


def checkpoints(model: str) -> tuple[tuple[Checkpoint, ...], str]:
    """Ready quantized weights of `model`: the catalog's, and (unless offline) those that the Hub lists, by trust.

    The second value says what was not asked, and why; empty when the Hub answered. Raises UnknownNameError for
    a model nobody has.
    """
    from planner.errors import NetworkError
    from planner.sources import network
    from planner.sources.catalog import load
    from planner.sources.hub_search import all_checkpoints
    from planner.sources.models import resolve_model

    catalog = load()
    spec = resolve_model(catalog, model)[0]
    try:
        found = all_checkpoints(catalog, spec)
    except NetworkError as error:
        return spec.checkpoints, f"the catalog's only: {error}"
    return found, "the catalog's only: offline" if network.offline() else ""


def compare(model: str, gpus: str, **options: Any) -> Comparison:
    """Each engine's best configuration on the same machine and load, beside published figures."""
    from planner.advise.brief import make_brief
    from planner.advise.calibrated import calibrated_here
    from planner.advise.compare import compare as advise
    from planner.sources.catalog import load
    from planner.sources.local_calibration import corrected
    from planner.sources.machines import resolve_machine
    from planner.sources.models import resolve_model

    request = make_request(model=model, gpus=gpus, **options)
    catalog = load()
    spec, assumed = resolve_model(catalog, request.model)
    machine = corrected(resolve_machine(catalog, gpus, request.ram), request.local_calibration)
    brief = make_brief(request, spec, machine, _notes(catalog, request, assumed))
    configurations, refused, published, contradictions = advise(catalog, brief)
    assumptions = (*brief.assumptions, *calibrated_here(machine, *configurations))
    return Comparison(configurations, refused, published, contradictions, assumptions)


def accuracy() -> Report:
    """How far our figures are off, on every measured row that ships: fitted, held out, and the bands' coverage.

    Takes some seconds; `Report.outcomes` are the targets, `.slices` the errors, `.unanswered` the reasons.
    """
    from planner.sources.catalog import load
    from planner.validate.accuracy import accuracy as score

    return score(load())


def validate(
    plan: Plan | str | Path, only: str | Sequence[str] | None = None, checkpoint: Path | None = None
) -> Verdict:
    """Try `plan` (a Plan, a plan.yaml, or a folder of its files) before it is deployed: lint, simulate, smoke.

    A folder is linted as it lies; `only` names depths; `checkpoint` (up to 1B) runs in place of the smoke test's twin.
    Raises UnknownNameError for another depth, UsageError for a checkpoint that the engine cannot run.
    """
    from planner.validate.depths import validate as check

    folder = Path(plan) if isinstance(plan, (str, Path)) and Path(plan).is_dir() else None
    return check(load_plan(plan), folder, only, checkpoint)


def simulate(plan: Plan | str | Path, duration_s: float | None = None, **load: Any) -> Simulation:
    """`plan` under its own load, or with the Request fields of `load` instead (concurrency, request_rate, arrival,
    input_tokens, …): latencies, throughput, queue, KV occupancy, and the most load within its targets.

    With `duration_s` every client is simulated for that long. Raises UsageError for a load that exceeds the limits.
    """
    from planner.validate.simulate import simulation

    held = load_plan(plan)
    if load.get("request_rate") is not None and load.get("arrival") is None:
        load["arrival"] = "poisson"
    fields = held.request.model_dump(exclude_none=True) | {k: v for k, v in load.items() if v is not None}
    if fields["arrival"] != "poisson":
        fields.pop("request_rate", None)
    from planner.sources.catalog import load as open_catalog

    changed = held.model_copy(update={"request": make_request(**fields)})
    return simulation(changed, open_catalog(), duration_s)


def probe(url: str, plan: Plan | str | Path | None = None, **options: Any) -> Verdict:
    """Ask a live endpoint (OpenAI's API, TGI's or Ollama's) everything a client relies on, then put load on it.

    With a plan: at its concurrency, beside its figures. Options are those of `planner.validate.probe.probe`.
    """
    from planner.validate.probe import probe as check

    return check(url, None if plan is None else load_plan(plan), **options)


def calibrate(
    plan: Plan | str | Path,
    url: str | None = None,
    *,
    measured: Mapping[str, Any] | None = None,
    date: str | None = None,
    **options: Any,
) -> LocalCorrection:
    """Measure the deployment of `plan` at `url` (or take `measured`, what `planner probe -o json` printed) and keep
    what later estimates for this device and engine are corrected by.

    `date` is the day of the measurement (ISO; None: today). Options are those of `probe`. Raises UsageError for a
    load that was not the planned one, CheckFailedError when requests failed.
    """
    from planner.validate.calibrate import correction_of, keep

    held = load_plan(plan)
    if (url is None) == (measured is None):
        raise UsageError("calibrate needs --url of the deployment, or --from with what `planner probe -o json` printed")
    found = measured if url is None else probe(url, held, **options).to_dict()
    assert found is not None
    correction = correction_of(held, found, date)
    keep(correction)
    return correction


_LAYOUT = (
    *("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel", "replicas"),
    *("gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens"),
)
"""What one engine's plan says of its own layout and does not bind another engine's."""


def generate(plan: Plan | str | Path, targets: Sequence[str] | None = None) -> dict[str, str]:
    """The files of `plan` (a Plan or the path of a plan.yaml): relative path → text."""
    from planner.render import render

    return render(load_plan(plan), targets)


def migrate(
    plan: Plan | str | Path, *, gpus: str | None = None, ram: str | None = None, quantization: str | None = None
) -> dict[str, str]:
    """MIGRATE.md and both sides' files: from Ollama to vLLM for the model and load of `plan`.

    The other side is planned on `gpus` (None: the plan's own machine). Raises UsageError for a plan of another
    engine, InfeasibleError when the other engine cannot serve the load there.
    """
    from planner.render.migration import migration

    held = load_plan(plan)
    others = {"ollama": "vllm", "vllm": "ollama"}
    engine = held.best.engine.name
    if engine not in others:
        raise UsageError(f"migrate goes from ollama to vllm, and this plan is for {engine}")
    asked = {
        **dict.fromkeys(("engine_version", "kv_cache_dtype", *_LAYOUT)),
        "engine": others[engine],
        "gpus": gpus or held.request.gpus or held.best.hardware.label,
        "ram": ram or held.request.ram,
        "quantization": quantization,
    }
    fields = held.request.model_dump(exclude_none=True) | asked
    other = recommend_request(make_request(**fields)).plan
    return migration(held, other) if engine == "ollama" else migration(other, held)


def load_plan(plan: Plan | str | Path) -> Plan:
    """A Plan from a plan.yaml, or from a folder that holds one. Raises UsageError or FormatError."""
    if not isinstance(plan, (str, Path)):
        return plan
    from planner.advise.sound import check_plan
    from planner.render.plan_file import MAX_CHARACTERS
    from planner.render.plan_file import load_plan as parse
    from planner.sources.given import read_given

    path = Path(plan)
    try:
        if path.is_dir():
            path = path / "plan.yaml"
            if not path.exists():
                raise UsageError(f"{str(plan)!a} holds no plan.yaml; give the folder that --save-dir made")
        text = read_given(path, MAX_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(plan)!a} cannot be read as a plan: {reading_failure(error)}") from None
    try:
        return check_plan(parse(text))
    except FormatError as error:
        raise FormatError(f"{str(path)!a}: {error}") from None
