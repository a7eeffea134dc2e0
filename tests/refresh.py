"""Rewrite the generated documents: `python -m tests.refresh`. Tests compare; this writes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
_RUN = re.compile(r"(<!-- run: planner (?P<arguments>[^\n]+) -->\n```\n).*?(```\n)", re.DOTALL)


def request_schema() -> str:
    """JSON Schema of a request file."""
    from planner.spec.request import Request

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Request.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def readme() -> str:
    """The README with the output of every command that it shows."""
    return _RUN.sub(lambda m: m[1] + output(shlex.split(m["arguments"])) + m[3], README.read_text(encoding="utf-8"))


def output(arguments: list[str]) -> str:
    """What `planner` prints, as a reader sees it: stdout, then stderr, without trailing spaces."""
    done = subprocess.run(
        [sys.executable, "-m", "planner", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    lines = (done.stdout + done.stderr).splitlines()
    return "".join(line.rstrip() + "\n" for line in lines)


def documents() -> dict[Path, str]:
    """Path → what it must hold."""
    from planner.api import accuracy
    from planner.report.accuracy import markdown
    from planner.validate.seed import generate

    return {
        DOCS / "accuracy.md": markdown(accuracy()),
        DOCS / "request.schema.json": request_schema(),
        DOCS / "seed-check.md": generate(),
        README: readme(),
    }


def main() -> None:
    """Write every generated document."""
    DOCS.mkdir(exist_ok=True)
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
