"""How fast the tool itself is: cold start, import, a search over every accelerator, the simulator.

`python benchmarks/speed.py` prints one table; the README quotes it. Each figure is the median of
several runs of a fresh interpreter, so a noisy machine shifts all of them together.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import simulator

RUNS = 7
_MEMORY = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

CASES: dict[str, tuple[str, float]] = {
    "python itself": ("pass", 0.0),
    "import planner": ("import planner", 0.15),
    "recommend llama3-70b on 2xA100": (
        "import sys; sys.argv = ['planner', 'recommend', '--model', 'llama3-70b', '--gpus', '2xA100']\n"
        "from planner.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit:\n    pass",
        0.6,
    ),
    "estimate llama3-8b on 1xH100": ("import planner; planner.estimate('llama3-8b', '1xH100')", 0.6),
    "fit 1xRTX-4090 (whole model catalog)": ("import planner; planner.fit('1xRTX-4090')", 0.0),
    "recommend llama3-8b, no machine (every accelerator)": ("import planner; planner.recommend('llama3-8b')", 2.0),
}


def measure(code: str) -> tuple[float, float]:
    """(median wall seconds, peak MiB) of `code` in fresh interpreters."""
    walls, peaks = [], []
    for _ in range(RUNS):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", f"{code}\n{_MEMORY}"], capture_output=True, text=True, check=True)
        walls.append(time.perf_counter() - began)
        peaks.append(int(done.stdout.strip().splitlines()[-1]) / 1024)
    return statistics.median(walls), statistics.median(peaks)


def main() -> None:
    """Warm the index once, then measure every case."""
    measure("import planner; planner.estimate('llama3-8b', '1xH100')")
    results = {}
    sys.stdout.write("| what | median s | peak MiB | budget s |\n|---|---|---|---|\n")
    for name, (code, budget) in CASES.items():
        wall, peak = measure(code)
        results[name] = {"wall_s": round(wall, 3), "peak_mib": round(peak, 1)}
        sys.stdout.write(f"| {name} | {wall:.2f} | {peak:.0f} | {budget or '–'} |\n")
        sys.stdout.flush()
    for name, wall, budget in simulator.figures():
        results[name] = {"wall_s": round(wall, 4)}
        sys.stdout.write(f"| {name} | {wall:.4f} | – | {budget or '–'} |\n")
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
