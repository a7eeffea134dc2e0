"""The engine's server under clients for a while: `python -m benchmarks.soak`, the shipped smoke model, Linux.

64 clients stream answers for a minute: each must be whole, and word for word the one of a client alone. Then 1,000
clients connect, ask and leave in the middle. Prints requests, tokens per second, resident memory (MiB) after a
tenth of the time and at the end, and what is left over: all must be back to nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

from planner.engine.smoke_model import FOLDER, golden_answers

GROWTH_MIB = 8.0
"""Memory may grow by so much between a tenth of the run and its end: allocator noise, not a leak."""


def main() -> int:
    """Run both; 1 when an answer was lost or changed, memory grew or a block is still taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--disconnects", type=int, default=1000)
    options = parser.parse_args()
    command = [sys.executable, "-m", "planner.engine", "--model", str(FOLDER), "--port", "0"]
    command += ["--max-model-len", "256", "--max-num-seqs", "16", "--served-model-name", "smoke"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = next(line.split()[-1] for line in server.stdout if line.startswith("serving on"))
            report = soak(url, server.pid, options.clients, options.seconds)
            for number in range(options.disconnects):
                leave(url, number)
            report |= left_over(url, options.disconnects)
        finally:
            server.terminate()
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    grew = float(str(report["rss_mib_at_the_end"])) - float(str(report["rss_mib_after_a_tenth"]))
    wrong = report["wrong_answers"] or report["lost_streams"] or report["running"] or report["kv_cache_usage"]
    return int(bool(wrong) or grew > GROWTH_MIB)


def soak(url: str, pid: int, clients: int, seconds: float) -> dict[str, object]:
    """`clients` at once for `seconds`."""
    golden = list(golden_answers().items())
    counts = {"requests": 0, "tokens": 0, "wrong_answers": 0, "lost_streams": 0}
    lock, end = threading.Lock(), time.monotonic() + seconds

    def client(number: int) -> None:
        while time.monotonic() < end:
            question, answer = golden[number % len(golden)]
            number += 1
            text, done = stream(url, question)
            with lock:
                counts["requests"] += 1
                counts["tokens"] += len(text.encode())
                counts["lost_streams"] += not done
                counts["wrong_answers"] += text != answer

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(seconds / 10)
    early = rss_mib(pid)
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    return counts | {
        "clients": clients, "seconds": round(took, 1), "tokens_per_s": round(counts["tokens"] / took, 1),
        "rss_mib_after_a_tenth": early, "rss_mib_at_the_end": rss_mib(pid),
    }  # fmt: skip


def stream(url: str, question: str) -> tuple[str, bool]:
    """The streamed answer, and whether its end came."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=120)
    text, done = "", False
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", body(question), {"Content-Type": "application/json"})
        for line in connection.getresponse():
            data = line.decode().strip().removeprefix("data: ")
            if data == "[DONE]":
                done = True
            elif data:
                text += json.loads(data)["choices"][0]["delta"].get("content") or ""
    return text, done


def body(question: str) -> bytes:
    """A streaming request at temperature 0."""
    messages = [{"role": "user", "content": question}]
    return json.dumps({"model": "smoke", "messages": messages, "stream": True, "temperature": 0}).encode()


def leave(url: str, number: int) -> None:
    """Ask, read a little (or nothing) and close."""
    address = urllib.parse.urlsplit(url)
    asked = body("Explain continuous batching.")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(asked)}\r\n\r\n".encode()
    with socket.create_connection((str(address.hostname), address.port), timeout=30) as connection:
        connection.sendall(head + asked[: len(asked) if number % 3 else len(asked) // 2])
        if number % 3 == 1:
            connection.recv(200)


def left_over(url: str, disconnects: int) -> dict[str, object]:
    """What the metrics say once the server has had time to notice."""
    found: dict[str, float] = {}
    for _ in range(100):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
            match = re.search(rf"^vllm:{name}\{{.*\}} (\S+)$", text, re.MULTILINE)
            found[name] = float(match[1]) if match else -1
        if not any(found.values()):
            break
        time.sleep(0.2)
    running = found["num_requests_running"] + found["num_requests_waiting"]
    return {"disconnects": disconnects, "running": running, "kv_cache_usage": found["kv_cache_usage_perc"]}


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return round(int(match[1]) / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())
