"""The example notebook runs in a real kernel and shows a plan as HTML."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "planning.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # jupyter's own packages warn about themselves
def test_the_example_notebook_runs_and_shows_itself() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    html = shown["recommend"][0].data["text/html"]
    assert "Meta-Llama-3-70B-Instruct" in html
    assert "<script" not in html
    assert "kv_cache" in html
    assert "docker-run.sh" in shown["artifacts"][0].data["text/plain"]
