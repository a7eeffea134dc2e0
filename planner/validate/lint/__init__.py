"""A plan's files as the real tools see them, before anything is deployed.

A plan is rendered in memory; a folder is checked as it lies and compared with a fresh rendering of the plan.yaml in
it. Tools are in `tools`, what files say in `contents`, how they are read in `documents`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import CheckFailedError, UsageError
from planner.render import render, targets
from planner.render.launch import plan_launch, why_no_image
from planner.render.write import RECORD
from planner.validate.lint import contents, hardening, tools
from planner.validate.verdict import Check, from_problems, guarded, passed, skipped

if TYPE_CHECKING:
    from planner.spec.plan import Plan

MAX_FILE_BYTES = 16 << 20
MAX_FILES = 2000


def lint(
    plan: Plan, files: Mapping[str, str] | None = None, recorded: Collection[str] | None = None
) -> tuple[Check, ...]:
    """All checks of `files` (path → text, as `read_folder` gives them), or of the plan's own rendering.

    `recorded` are the paths that were written to the folder; those that it lacks now are named.
    """
    fresh = render(plan) if files is None else _again(plan, files)
    given = fresh if files is None else files
    first = _rendered(fresh) if files is None else _as_rendered(files, fresh)
    floating = why_no_image(plan) is None and not plan_launch(plan).fixed_image
    with tempfile.TemporaryDirectory(prefix="planner-lint-") as name:
        folder = Path(name)
        for path, text in given.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        chart, compose = _chart(given, folder, floating), _compose(given, folder, floating)
        complete = [] if recorded is None else [_complete(given, recorded)]
        checks = [first, *complete, *chart[0], compose, tools.shell(given, folder)]
    manifests = {"helm template": chart[1]} if chart[1] else {}
    plain = {p: t for p, t in given.items() if p.endswith(".yaml") and "/" not in p and p not in contents.PROSE}
    return (
        *checks,
        guarded("Kubernetes schema", lambda: tools.kubernetes(plain | manifests)),
        contents.modelfile(given),
        contents.flags(given, manifests, plan),
        contents.limits(dict(given) | manifests, fresh, plan),
        contents.tags(given, manifests),
        contents.no_secret(given),
        contents.platform(given, fresh, manifests, plan),
        hardening.check(dict(given) | {f"{name}.yaml": text for name, text in manifests.items()}, plan),
    )


def read_folder(folder: Path) -> dict[str, str]:
    """Path → text of every file under `folder` (our own record left out). Raises CheckFailedError for others."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name == RECORD:
            continue
        if len(found) >= MAX_FILES:
            raise UsageError(f"{str(folder)!a} holds more than {MAX_FILES} files; name a plan's own folder")
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise UsageError(f"{name!a} is over {MAX_FILE_BYTES >> 20} MiB; a plan's folder holds text")
            found[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise CheckFailedError(f"{name!a} is no UTF-8 text; a plan's folder holds text") from None
        except OSError as error:
            raise UsageError(f"{name!a} cannot be read: {error.strerror}") from None
    return found


def _again(plan: Plan, files: Mapping[str, str]) -> dict[str, str]:
    """A fresh rendering of the targets that `files` hold."""
    slugs = [t.slug for t in targets() if not t.always and t.supports(plan) is None and set(t.files) <= files.keys()]
    return render(plan, slugs)


def _rendered(fresh: Mapping[str, str]) -> Check:
    return passed("rendering", f"{len(fresh)} files rendered in memory", files=len(fresh))


def _complete(files: Mapping[str, str], recorded: Collection[str]) -> Check:
    """Every file that was written is still there: a target of one file leaves no other trace when it is deleted."""
    if not recorded:
        return skipped("files", f"no {RECORD} here says which files were written")
    problems = [f"{path!a} is missing: it was written with the plan" for path in sorted(recorded) if path not in files]
    return from_problems("files", problems, f"all {len(recorded)} files that were written are here")


def _as_rendered(files: Mapping[str, str], fresh: Mapping[str, str]) -> Check:
    """Files as they lie against a fresh rendering: the first line that differs."""
    ours = {path for target in targets() for path in target.files}
    problems = [f"{path} is missing" for path in fresh if path not in files]
    for path, text in files.items():
        if path in fresh and fresh[path] != text:
            problems.append(f"{path} line {_first_difference(text, fresh[path])} is not what the plan says")
        elif path not in fresh and path in ours:
            problems.append(f"{path} belongs to a target that is incomplete here or that this plan cannot have")
    others = sorted(files.keys() - fresh.keys() - ours)
    also = f"; not ours: {', '.join(others[:5])}" if others else ""
    return from_problems("as rendered", problems, f"{len(fresh)} files equal a fresh rendering{also}", files=len(files))


def _first_difference(a: str, b: str) -> int:
    pairs = zip(a.splitlines(), b.splitlines(), strict=False)
    same = 0
    for left, right in pairs:
        if left != right:
            break
        same += 1
    return same + 1


def _chart(files: Mapping[str, str], folder: Path, floating: bool) -> tuple[list[Check], str]:
    if "helm/Chart.yaml" not in files:
        return [
            skipped("helm lint", "no chart in these files"),
            skipped("helm template", "no chart in these files"),
        ], ""
    return tools.helm(folder, floating)


def _compose(files: Mapping[str, str], folder: Path, floating: bool) -> Check:
    if "compose.yaml" not in files:
        return skipped("compose config", "no compose.yaml in these files")
    return tools.compose(folder, floating)[0]
