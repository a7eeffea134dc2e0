"""A sample of every engine, platform, shape and target, rendered from the advisor's plans and checked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "artifacts.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    spec = importlib.util.spec_from_file_location("benchmark_artifacts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_pair_of_choices_gives_files_that_the_tools_take(script: ModuleType) -> None:
    sample = script.pairwise(script.combinations())
    outcome = script.run(sample, script.CORE_VERSIONS[:1], whole=False)
    assert outcome.problems == []
    assert outcome.rendered == len(sample) > 50 and not outcome.refused
    rendered = {slug for slug, counts in outcome.by_target.items() if counts["rendered"]}
    assert rendered == {target.slug for target in script.targets() if not target.always}


def test_the_checks_notice_a_broken_file(script: ModuleType, tmp_path: Path) -> None:
    broken = {
        "a.sh": "if true\n",
        "k8s.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {port: []}\n",
        "route.yaml": "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {name: x}\nspec: {}\n",
        "llm-d.yaml": "decode: {}\n",
        "systemd.service": "[Unit]\n",
    }
    found = {problem.split(":")[0] for problem in script.check(broken, tmp_path, ("1.37",))}
    assert found == set(broken)
