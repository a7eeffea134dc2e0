"""The wheel holds the data folders whole, and works away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_files(root: Path) -> set[str]:
    """Paths under the three data folders, as the wheel should have them."""
    return {
        str(path.relative_to(root)).replace("\\", "/")
        for name in ("hardware", "catalog", "templates")
        for path in (root / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_the_wheel_is_complete_and_runs_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("planner-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packaged = {n.removeprefix("planner/data/") for n in names if n.startswith("planner/data/")}
    assert packaged == data_files(ROOT)
    assert "planner/py.typed" in names

    home = tmp_path / "venv"
    venv.create(home, with_pip=False, system_site_packages=False)
    site = next(home.glob("lib/python*/site-packages"), home / "Lib" / "site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    ours = next(p for p in map(Path, sys.path) if (p / "pydantic").is_dir())
    (site / "dependencies.pth").write_text(str(ours) + "\n", encoding="utf-8")
    python = home / "bin" / "python" if (home / "bin").is_dir() else home / "Scripts" / "python.exe"
    code = (
        f"import planner; from pathlib import Path; assert Path(planner.__file__).is_relative_to({str(site)!r});"
        "print(planner.recommend('llama3-70b', '2xA100').best.engine.name)"
    )
    done = subprocess.run(
        [str(python), "-I", "-c", code], cwd=Path(tmp_path.anchor), capture_output=True, text=True, check=False,
        env={"PLANNER_CACHE_DIR": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "vllm"
