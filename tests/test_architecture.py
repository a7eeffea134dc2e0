"""The house's own rules: imports go downward only, files stay small, the cold path stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "planner"

ROWS = (
    ("errors", "units", "resources", "version", "records"),
    ("spec",),
    ("formats",),
    ("sources",),
    ("estimate",),
    ("advise",),
    ("render",),
    ("engine",),
    ("validate",),
    ("upkeep",),
    ("report",),
    ("api", "answers", "__init__"),
    ("cli", "__main__"),
)
RANK = {name: row for row, names in enumerate(ROWS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, room) of every import of our own package that runs; those for type checkers do not."""
    found = []
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "planner":
                found += [(node.lineno, alias.name) for alias in node.names]
            elif node.module.startswith("planner."):
                found.append((node.lineno, node.module.split(".")[1]))
        elif isinstance(node, ast.Import):
            found += [(node.lineno, a.name.split(".")[1]) for a in node.names if a.name.startswith("planner.")]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_from_rows_above(path: Path) -> None:
    own = RANK[room(path)]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return  # the public face names what api exports; it imports it lazily
    for line, target in imported_rooms(tree):
        assert target in RANK, f"{path.name}:{line} imports {target}, which has no row in the house"
        assert RANK[target] <= own, f"{path.name}:{line} imports {target}, which lies below {room(path)}"


def test_the_engine_knows_nothing_of_the_advisor() -> None:
    for path in (PACKAGE / "engine").rglob("*.py"):
        for line, target in imported_rooms(ast.parse(path.read_text(encoding="utf-8"))):
            assert target in {*ROWS[0], "formats", "engine"}, f"{path.name}:{line} imports {target}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_over_400_lines_says_why(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count("\n") > 400:
        docstring = ast.get_docstring(ast.parse(text)) or ""
        assert "lines" in docstring, f"{path.name} has {text.count(chr(10))} lines and its docstring does not say why"


def test_the_median_file_is_short() -> None:
    sizes = sorted(p.read_text(encoding="utf-8").count("\n") for p in MODULES if p.name != "__init__.py")
    assert sizes[len(sizes) // 2] <= 150


def test_only_catalog_reads_catalog_yaml() -> None:
    readers = {
        str(p.relative_to(PACKAGE)).replace("\\", "/")
        for p in MODULES
        if "import yaml" in p.read_text(encoding="utf-8")
    }
    assert readers <= {
        "sources/entries.py",  # the catalogs
        "upkeep/edit.py",  # finds the place of a change in their text
        "cli/request.py",  # a user's request file
        "cli/emit.py",  # prints YAML
        "render/plan_file.py",  # plan.yaml
        "validate/seed_checks.py",  # manifests of the seed
        "validate/lint/documents.py",  # manifests under check
        "validate/custom.py",  # schemas beside the templates
    }


def test_a_cold_recommend_imports_nothing_heavy() -> None:
    code = (
        "import sys, planner.cli.main, planner.api\n"
        "planner.api.recommend('llama3-8b', '1xH100')\n"
        "heavy = {'numpy', 'jinja2', 'huggingface_hub', 'pandas', 'requests', 'httpx'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
