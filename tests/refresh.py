"""Rewrite the generated documents: `python -m tests.refresh`. Tests compare; this writes."""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def request_schema() -> str:
    """JSON Schema of a request file."""
    from planner.spec.request import Request

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Request.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def documents() -> dict[str, str]:
    """File name under docs/ → what it must hold."""
    from planner.validate.seed import generate

    return {"request.schema.json": request_schema(), "seed-check.md": generate()}


def main() -> None:
    """Write every generated document."""
    DOCS.mkdir(exist_ok=True)
    for name, text in documents().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
