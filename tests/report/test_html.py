"""HTML for a notebook: complete, and no value can break out of its place."""

from __future__ import annotations

from html.parser import HTMLParser

import planner
from planner.report.html import estimate_html, plan_html


class Tags(HTMLParser):
    """Collects the tags of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)


def test_a_plan_shows_choice_memory_speed_and_assumptions() -> None:
    rec = planner.recommend(model="llama3-8b", gpus="1xH100")
    html = rec._repr_html_()
    for piece in ("vllm", "weights", "kv_cache", "TTFT", "Assumed", "Alternatives"):
        assert piece in html


def test_hostile_text_in_a_plan_stays_text() -> None:
    rec = planner.recommend(model="llama3-8b", gpus="1xH100")
    hostile = "<script>alert(1)</script>\"'&"
    model = rec.best.model.model_copy(update={"checkpoint": hostile})
    plan = rec.plan.model_copy(
        update={"best": rec.best.model_copy(update={"model": model}), "cautions": (hostile,), "assumptions": (hostile,)}
    )
    tags = Tags()
    tags.feed(plan_html(plan))
    assert "script" not in tags.tags


def test_an_estimate_shows_itself() -> None:
    est = planner.estimate(model="llama3-8b", gpus="1xH100", engine="vllm", max_model_len=8192)
    assert "Memory of one" in estimate_html(est)


def test_what_fits_and_what_is_compared_show_themselves() -> None:
    fits = planner.fit("1xRTX-4090")._repr_html_()
    assert fits.count("<tr>") > 50 and "output tok/s" in fits
    compared = planner.compare("llama3-8b", "1xA100", concurrency=128)._repr_html_()
    for piece in ("vllm", "tgi", "ollama", "published", "cannot all hold at once"):
        assert piece in compared
