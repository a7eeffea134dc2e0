"""Options of the verbs that talk to a live endpoint."""

from __future__ import annotations

from typing import Annotated

import typer

LoadSeconds = Annotated[float, typer.Option("--load-seconds", metavar="S", min=1, help="Start no request after this.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="S", min=1, help="Seconds without a byte.")]
KeyVariable = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="VARIABLE", help="Environment variable that holds the endpoint's key."),
]
