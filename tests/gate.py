"""The gate: formatting, lint, types, tests. The same locally and in CI: `python tests/gate.py`.

`--fast` leaves out the tests marked `slow` (building wheels, executing a notebook).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATHS = ("planner", "tests", "benchmarks")


def main(arguments: list[str]) -> int:
    """Run every step; the exit code is that of the first that fails."""
    pytest = ["-m", "pytest", "-q", "-n", str(min(4, os.cpu_count() or 1)), "--durations=10"]
    if "--fast" in arguments:
        pytest += ["-m", "not slow"]
    steps = (
        ["-m", "ruff", "format", "--check", *PATHS],
        ["-m", "ruff", "check", *PATHS],
        ["-m", "mypy"],
        pytest,
    )
    for step in steps:
        began = time.perf_counter()
        sys.stdout.write(f"== {' '.join(step[1:])}\n")
        sys.stdout.flush()
        code = subprocess.run([sys.executable, *step], cwd=ROOT, check=False).returncode
        sys.stdout.write(
            f"== {step[1]}: {'ok' if code == 0 else f'failed ({code})'} in {time.perf_counter() - began:.0f} s\n"
        )
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
