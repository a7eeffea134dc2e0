"""What a plan's files say, against the plan: options, limits, image tags, secrets, platform.

Each function gives one Check over the files' text. Runs no tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from planner.formats.modelfile import parse_modelfile
from planner.render import targets
from planner.render.launch import device_resource, find_image, plan_launch, why_no_image
from planner.render.names import has_fixed_tag
from planner.sources.flags import check_flags, flag_list
from planner.validate.lint.documents import command_lines, documents, images, option_values, secrets, values_of
from planner.validate.verdict import Check, from_problems, guarded, judged, passed, skipped

if TYPE_CHECKING:
    from planner.spec.plan import Plan

PROSE = frozenset({"plan.yaml", "PLAN.md"})
"""The lock file and its summary mention other configurations too."""
_PLACES = frozenset({"--host", "--hostname", "--port"})
_LIMIT_VARIABLES = ("OLLAMA_",)
_GPU_RESOURCES = ("nvidia.com/", "amd.com/", "habana.ai/", "gpu.intel.com/")


def flags(files: Mapping[str, str], manifests: Mapping[str, str], plan: Plan) -> Check:
    """Every launcher's command line in the files against the option list of the pinned engine version."""
    name, release = "engine flags", plan.resolved.engine
    title = f"{release.engine} {release.version}"
    if why_no_image(plan) is not None:
        return skipped(name, f"{title} runs without a container here; nothing is passed on a command line")
    if release.engine == "ollama":
        return passed(name, "ollama serve takes no options; the limits are in its environment and the Modelfile")
    known = flag_list(release)
    if known is None:
        return skipped(name, f"no option list of {title} is catalogued")

    def check() -> Check:
        ours = {word.partition("=")[0] for word in plan_launch(plan).args if word.startswith("--")}
        sources = {p: t for p, t in files.items() if p.endswith((".yaml", ".sh")) and _is_plain(p)} | dict(manifests)
        lines = {
            path: [words for words in command_lines(path, text) if ours & {w.partition("=")[0] for w in words}]
            for path, text in sources.items()
        }
        problems = [
            f"{path}: {p}" for path, found in lines.items() for words in found for p in check_flags(release, words)
        ]
        carrying = [path for path, found in lines.items() if found]
        if not carrying:
            return skipped(name, "no file here holds a command line of the engine")
        how = "printed by its own parser" if known.verified else f"read from {known.source}"
        return from_problems(name, problems, f"known to {title} ({how}) in {len(carrying)} files")

    return guarded(name, check)


def limits(files: Mapping[str, str], fresh: Mapping[str, str], plan: Plan) -> Check:
    """Every planned limit has the planned value wherever a file gives it, and no file lost one.

    `fresh` is the rendering that says how often each file gives each limit.
    """
    name = "limits equal"
    if why_no_image(plan) is not None:
        return _modelfile_limits(files, plan)
    launch = plan_launch(plan)
    planned = {flag: value for flag, value in _options(launch.args) if flag not in _PLACES and _is_limit(value)}
    planned |= {k: v for k, v in launch.environment.items() if k.startswith(_LIMIT_VARIABLES) and _is_limit(v)}
    keys = {**planned, **{flag.removeprefix("--"): value for flag, value in planned.items() if flag.startswith("--")}}
    if launch.engine == "ollama":
        keys["num_ctx"] = str(plan.best.limits.num_ctx or plan.best.limits.max_model_len)
    problems, carrying = [], 0
    for path, text in files.items():
        if path in PROSE:
            continue
        names = keys if path in ("helm/values.yaml", "Modelfile") else planned
        wanted = option_values(fresh.get(path, ""), names)
        found = option_values(text, names)
        carrying += bool(found)
        for key in wanted.keys() | found.keys():
            given = found.get(key, ())
            wrong = sorted({v for v in given if v not in (names[key], *wanted.get(key, ()))})
            if wrong:
                problems.append(f"{path}: {key} is {', '.join(wrong)}, planned {names[key]}")
            elif len(given) < len(wanted.get(key, ())):
                problems.append(f"{path}: {key} is missing, planned {names[key]}")
    if not carrying and not problems:
        return skipped(name, "no file here gives a limit")
    return from_problems(name, sorted(problems), f"{len(planned)} limits, the same in {carrying} files")


def modelfile(files: Mapping[str, str]) -> Check:
    """The Modelfile as Ollama's parser reads it."""
    name = "Modelfile grammar"
    if "Modelfile" not in files:
        return skipped(name, "no Modelfile in these files")

    def check() -> Check:
        found = parse_modelfile(files["Modelfile"])
        problems = [f"Ollama ignores the parameter {parameter}" for parameter in found.ignored]
        return from_problems(name, problems, f"FROM {found.source}, {len(found.parameters)} parameters")

    return guarded(name, check)


def tags(files: Mapping[str, str], manifests: Mapping[str, str]) -> Check:
    """Every image has a tag or digest that stays what it is. `manifests` are rendered charts."""
    name = "no floating tag"

    def check() -> Check:
        sources = {p: t for p, t in files.items() if p.endswith((".yaml", ".sh")) and _is_plain(p)} | dict(manifests)
        found = {(path, image) for path, text in sources.items() for image in images(path, text)}
        problems = [f"{path}: {image}" for path, image in sorted(found) if not has_fixed_tag(image)]
        named = sorted({image for _, image in found})
        if not named:
            return skipped(name, "no image is named in these files")
        return from_problems(name, problems, ", ".join(named))

    return guarded(name, check)


def no_secret(files: Mapping[str, str]) -> Check:
    """Nothing in the files looks like a token or key, and no Secret carries data."""

    def check() -> Check:
        problems = [f"{path} holds {kind}" for path, text in files.items() for kind in secrets(text)]
        for path, text in files.items():
            if path.endswith(".yaml") and _is_plain(path):
                kept = [
                    d
                    for d in documents(text, path)
                    if d.get("kind") == "Secret" and (d.get("data") or d.get("stringData"))
                ]
                problems += [f"{path}: a Secret with its data" for _ in kept]
        return from_problems("no secret", problems, f"{len(files)} files looked through")

    return guarded("no secret", check)


def platform(files: Mapping[str, str], fresh: Mapping[str, str], manifests: Mapping[str, str], plan: Plan) -> Check:
    """The engine runs on the platform, in the plan's own image; no file is of a target that this plan cannot have;
    devices are the vendor's. `fresh` is the plan's rendering, `manifests` are rendered charts."""
    name, choice, release = "target platform", plan.best.engine, plan.resolved.engine
    native = choice.platform in release.native_platforms
    image = find_image(plan.best, plan.resolved)
    if image is None and not native:
        return judged(name, False, "", f"{release.engine} {release.version} has no image for {choice.platform}")

    def check() -> Check:
        problems = []
        for target in targets():
            own = set(target.files) - {path for t in targets() if t is not target for path in t.files}
            present = sorted(own & files.keys())
            reason = target.supports(plan) if present else None
            if reason is not None:
                problems.append(f"{present[0]} cannot be used: {reason}")
        allowed = device_resource(plan.resolved)
        for path, text in files.items():
            if not path.endswith((".yaml", ".sh")) or not _is_plain(path):
                continue
            problems += _other_images(path, text, images(path, fresh.get(path, "")))
            if path.endswith(".sh"):
                continue
            for document in documents(text, path):
                for limits_ in (*values_of(document, "limits"), *values_of(document, "requests")):
                    asked = (
                        [k for k in limits_ if str(k).startswith(_GPU_RESOURCES)] if isinstance(limits_, dict) else []
                    )
                    problems += [f"{path} asks for {k}, the plan's is {allowed}" for k in asked if k != allowed]
        reference = plan.best.engine.image
        for path, text in manifests.items():
            if reference is not None and plan_launch(plan).fixed_image:
                problems += _other_images(path, text, [reference])
        how = "an image" if image is not None else "installed natively"
        return from_problems(name, problems, f"{release.engine} {release.version} on {choice.platform}: {how}")

    return guarded(name, check)


def _other_images(path: str, text: str, planned: Iterable[str]) -> list[str]:
    """Planned images that `path` does not run, by name and tag: a mirror may hold them under another address."""
    found, wanted = ([image.rpartition("/")[2] for image in given] for given in (images(path, text), planned))
    others = ", ".join(dict.fromkeys(image for image in found if image not in wanted)) or "no image"
    return [
        f"{path} runs {others} where the plan has {name}"
        for name in dict.fromkeys(wanted)
        if found.count(name) < wanted.count(name)
    ]


def _modelfile_limits(files: Mapping[str, str], plan: Plan) -> Check:
    name = "limits equal"
    if "Modelfile" not in files:
        return skipped(name, "no container and no Modelfile: no file carries a limit")

    def check() -> Check:
        planned = plan.best.limits.num_ctx or plan.best.limits.max_model_len
        found = parse_modelfile(files["Modelfile"]).get("num_ctx")
        return judged(name, found == planned, f"num_ctx {planned}", f"Modelfile: num_ctx is {found}, planned {planned}")

    return guarded(name, check)


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(option, value) of `--x=1` and of `--x 1`."""
    for word, following in pairwise((*args, "--")):
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and (equals or not following.startswith("--")):
            yield flag, value if equals else following


def _is_limit(value: str) -> bool:
    return value.replace(".", "", 1).replace("-", "", 1).isdigit()


def _is_plain(path: str) -> bool:
    """Not a file of a chart (templates are no YAML; what they render to is looked at instead) and not the lock."""
    return not path.startswith("helm/") and path not in PROSE
