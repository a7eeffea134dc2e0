"""What the validation engine's server bears: `python -m benchmarks.clients`.

Streams to 64 clients for a minute and counts what was lost and how far the server's memory grew; then 1,000 clients
that connect, ask and leave at once, and whether every KV block came back. The server is a process of its own, with
the smoke model that ships. Linux: resident memory is read from /proc.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from planner.validate.probe.http import Client, EndpointError
from planner.validate.probe.load import Timing, timing_of

MODEL = Path(__file__).parent.parent / "planner" / "engine" / "smoke_model"
OUTPUT_TOKENS = 64
MEMORY_GROWTH = 1.05
"""Largest last over first reading of resident memory, once every client has been served, that is still flat."""


def main() -> int:
    """Measure and print; 1 when something was lost, leaked or grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--disconnects", type=int, default=1000)
    options = parser.parse_args()
    command = [sys.executable, "-m", "planner.engine", "--model", str(MODEL), "--port", "0"]
    command += ["--served-model-name", "smoke", "--max-num-seqs", str(options.clients), "--max-queue", "256"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        try:
            url = _url(server)
            report = {
                "streams": streams(url, server.pid, options.clients, options.seconds),
                "disconnects": disconnects(url, server.pid, options.disconnects),
            }
        finally:
            server.terminate()
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    held, left = report["streams"], report["disconnects"]
    return int(bool(held["failed"] or held["short"] or held["memory_growth"] > MEMORY_GROWTH or left["kv_usage"]))


def _url(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://[\d.:]+", line):
            return found[0]
    raise SystemExit("the server ended before it served")


def streams(url: str, pid: int, clients: int, seconds: float) -> dict[str, float]:
    """`clients` streaming clients, each asking again as soon as it is answered, for `seconds`."""
    end, lock = time.monotonic() + seconds, threading.Lock()
    timings: list[Timing] = []
    failed: list[str] = []
    resident: list[int] = []

    def ask(number: int) -> None:
        client, turn = Client(url, timeout_s=60), 0
        while time.monotonic() < end:
            turn += 1
            body = {
                "model": "smoke", "messages": [{"role": "user", "content": f"{number} {turn}"}], "stream": True,
                "max_tokens": OUTPUT_TOKENS, "ignore_eos": True, "temperature": 0,
                "stream_options": {"include_usage": True},
            }  # fmt: skip
            try:
                found: Timing | str = timing_of(client.stream("/v1/chat/completions", body))
            except EndpointError as error:
                found = str(error)
            with lock:
                if isinstance(found, Timing):
                    timings.append(found)
                else:
                    failed.append(found)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(min(2.0, seconds / 10))
        if len(timings) >= 2 * clients:
            resident.append(_resident_bytes(pid))
    for thread in threads:
        thread.join()
    resident.append(_resident_bytes(pid))
    return {
        "clients": clients, "seconds": seconds, "answers": len(timings), "failed": len(failed),
        "short": sum(t.output_tokens != OUTPUT_TOKENS for t in timings),
        "output_tokens_per_s": round(sum(t.output_tokens for t in timings) / seconds, 1),
        "resident_mib_first": resident[0] >> 20, "resident_mib_last": resident[-1] >> 20,
        "memory_growth": round(resident[-1] / resident[0], 4),
    }  # fmt: skip


def disconnects(url: str, pid: int, count: int) -> dict[str, float]:
    """`count` clients, 16 at once, that leave after the first bytes of a stream, or before them."""
    client = Client(url)
    host, port = client.host, client.port
    body = json.dumps(
        {"model": "smoke", "prompt": "once", "max_tokens": 400, "stream": True, "ignore_eos": True}
    ).encode()

    def leave(number: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        if number % 2:
            connection.getresponse().read(1)
        connection.close()

    before = _resident_bytes(pid)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(leave, range(count)))
    usage = _settled(lambda: _metric(client, "vllm:kv_cache_usage_perc") + _metric(client, "vllm:num_requests_running"))
    return {
        "count": count, "kv_usage": usage, "resident_mib_before": before >> 20,
        "resident_mib_after": _resident_bytes(pid) >> 20,
    }  # fmt: skip


def _settled(read: Callable[[], float], seconds: float = 30.0) -> float:
    """`read()` when it is 0, or its last value after `seconds`."""
    end = time.monotonic() + seconds
    while (value := read()) and time.monotonic() < end:
        time.sleep(0.2)
    return value


def _metric(client: Client, name: str) -> float:
    text = client.get("/metrics").body.decode()
    found = re.search(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"the server has no metric {name}")
    return float(found[1])


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
