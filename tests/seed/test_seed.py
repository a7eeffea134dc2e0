"""Every claim of the seed text: our verdict is what the planner computes, and the page says so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from planner.errors import CatalogError
from planner.sources.catalog import load
from planner.spec.claim import Claim
from planner.validate.seed import claims, generate, run
from planner.validate.seed_checks import CHECKS, little, manifest, waiting

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)
def test_our_verdict_is_what_is_computed(claim: Claim) -> None:
    checked = run(claim)
    assert checked.agrees, checked.finding


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "seed-check.md").read_text(encoding="utf-8")
    assert page == generate(), "run: python -m planner.validate.seed > docs/seed-check.md"


def test_every_check_is_used_and_no_id_occurs_twice() -> None:
    assert {claim.check for claim in claims()} - {None} == set(CHECKS)
    assert not [name for name, n in Counter(claim.id for claim in claims()).items() if n > 1]


def test_every_section_of_the_seed_is_covered_for_every_engine() -> None:
    sections = ("Quick comparison", "Architecture", "Benchmarks", "GPU requirements", "Decision guide")
    for section in sections:
        told = " ".join(claim.subject for claim in claims() if claim.section == section)
        assert all(engine in told for engine in ("vLLM", "TGI", "Ollama")), section


def test_nine_in_ten_claims_are_computed() -> None:
    assert sum(claim.check is not None for claim in claims()) >= 0.9 * len(claims())


def test_a_claim_that_nothing_backs_is_a_catalog_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = {"id": "bare", "section": "s", "subject": "x", "says": "y", "verdict": "holds", "why": "z"}
    for extra, message in (({}, "neither a check nor a source"), ({"check": "fit"}, "unknown check 'fit'.*fits")):
        document = {"claims": [{**bare, **extra}]}
        monkeypatch.setattr(type(load()), "document", lambda self, name, found=document: found)
        claims.cache_clear()
        with pytest.raises(CatalogError, match=message):
            claims()
    claims.cache_clear()


def test_arguments_that_a_check_does_not_take_are_a_catalog_error() -> None:
    claim = next(c for c in claims() if c.check == "little")
    wrong = claim.model_copy(update={"arguments": {**claim.arguments, "days": 1}})
    with pytest.raises(CatalogError, match=f"{claim.id}.*days"):
        run(wrong)


@pytest.mark.parametrize(("users", "itl_ms", "rate", "verdict"), [
    (128, 12, 4200, "contradicted"),
    (128, 30, 4200, "holds"),
    (50, 12, 4200, "holds"),
])  # fmt: skip
def test_users_latency_and_throughput_are_tied(users: float, itl_ms: float, rate: float, verdict: str) -> None:
    assert little(users=users, itl_ms=itl_ms, tokens_per_s=rate).verdict == verdict


def test_a_queue_shows_in_the_time_to_the_first_token() -> None:
    assert waiting(users=128, itl_ms=12, tokens_per_s=4200, ttft_ms=45).verdict == "contradicted"
    assert waiting(users=50, itl_ms=12, tokens_per_s=4200, ttft_ms=45).verdict == "holds"


def test_a_manifest_with_selector_labels_and_known_flags_is_not_refused() -> None:
    claim = next(c for c in claims() if c.id == "manifest-vllm")
    document = yaml.safe_load(str(claim.arguments["text"]))
    document["spec"]["selector"] = {"matchLabels": {"app": "x"}}
    document["spec"]["template"]["metadata"] = {"labels": {"app": "x"}}
    assert manifest(engine="vllm", text=yaml.safe_dump(document)).verdict == "changed"
    document["spec"]["template"]["spec"]["containers"][0]["args"].append("--swap-space=4")
    assert manifest(engine="vllm", text=yaml.safe_dump(document)).verdict == "contradicted"


def test_kubernetes_itself_refuses_the_seed_s_manifests() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    refused = [c for c in claims() if c.check == "manifest"]
    assert len(refused) == 2
    for claim in refused:
        with pytest.raises(validator.ValidationError, match="selector"):
            validator.validate(yaml.safe_load(str(claim.arguments["text"])), "1.34", strict=True)


def test_published_figures_are_the_seed_s_table() -> None:
    rows = load().document("seed_figures")["figures"]
    assert len(rows) == 18
    model, device = {row["model"] for row in rows}, {row["accelerator"] for row in rows}
    assert {load().model(name).id for name in model} == model
    assert {load().accelerator(name).id for name in device} == device
    rates = {row["engine"]: row["value"] for row in rows if row["metric"] == "output_tokens_per_s"}
    assert rates == {"vllm": 4200, "tgi": 3800, "ollama": 120}
