"""The engine's thread: requests come in through a queue, outputs go out through one queue per request.

Handlers of connections touch the engine only through this. A request that is given up is aborted here, which frees
its blocks. Knows nothing of HTTP.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.engine.engine import Engine, Output
from planner.engine.metrics import Metrics
from planner.engine.params import SamplingParams
from planner.errors import PlannerError


class EngineStoppedError(PlannerError):
    """The engine is shutting down or has failed; over HTTP a 503."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A handler's end of one request: outputs, or the error that ended it."""

    prompt: Sequence[int]
    params: SamplingParams
    outputs: queue.SimpleQueue[Output | Exception] = field(default_factory=queue.SimpleQueue)
    arrived: float = field(default_factory=time.perf_counter)
    last_token: float | None = None
    request_id: int | None = None


class EngineLoop:
    """Start it, `submit` requests, `cancel` those nobody waits for, `stop` it."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self.engine, self.metrics = engine, metrics
        self._inbox: queue.SimpleQueue[tuple[str, Ticket | None]] = queue.SimpleQueue()
        self._tickets: dict[int, Ticket] = {}
        self._draining = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._publish()
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._draining

    def submit(self, prompt: Sequence[int], params: SamplingParams) -> Ticket:
        """Hand a request over. Its first output, or its error, comes through the ticket."""
        ticket = Ticket(prompt, params)
        with self._gate:
            if not self.alive:
                raise EngineStoppedError("the engine is shutting down")
            self._inbox.put(("add", ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this request any more."""
        self._inbox.put(("cancel", ticket))

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Refuse new requests, finish those that run within `timeout_s`, end the thread. True when all finished."""
        with self._gate:
            self._draining = True
            self._inbox.put(("drain", None))
        self._thread.join(timeout_s)
        finished = not self._thread.is_alive()
        if not finished:
            self._inbox.put(("halt", None))
            self._thread.join()
        return finished

    def _run(self) -> None:
        running = True
        try:
            while running:
                running = self._take_orders()
                began = time.perf_counter()
                for output in self.engine.step():
                    self._deliver(output, began)
                self._publish()
        finally:
            self._draining = True
            for ticket in list(self._tickets.values()):
                ticket.outputs.put(EngineStoppedError("the engine stopped before the answer was complete"))
            self._refuse_rest()

    def _take_orders(self) -> bool:
        """Handle what lies in the inbox, waiting for something when idle; False to end."""
        while True:
            idle = not self.engine.has_work
            if idle and self._draining:
                return False
            try:
                order, ticket = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            if order == "halt":
                return False
            if ticket is not None and order == "add":
                self._add(ticket)
            elif ticket is not None and ticket.request_id in self._tickets:
                assert ticket.request_id is not None
                self.engine.abort(ticket.request_id)
                del self._tickets[ticket.request_id]
                self.metrics.finished("abort")
            self._publish()

    def _add(self, ticket: Ticket) -> None:
        try:
            ticket.request_id = self.engine.add(ticket.prompt, ticket.params)
            self._tickets[ticket.request_id] = ticket
        except PlannerError as error:
            ticket.outputs.put(error)

    def _deliver(self, output: Output, step_began: float) -> None:
        ticket, now = self._tickets[output.request_id], time.perf_counter()
        if ticket.last_token is None:
            self.metrics.observe("vllm:time_to_first_token_seconds", now - ticket.arrived)
            self.metrics.observe("vllm:request_queue_time_seconds", max(0.0, step_began - ticket.arrived))
        else:
            self.metrics.observe("vllm:inter_token_latency_seconds", now - ticket.last_token)
        ticket.last_token = now
        if output.finish_reason is not None:
            del self._tickets[output.request_id]
            self.metrics.finished(output.finish_reason)
            self.metrics.observe("vllm:e2e_request_latency_seconds", now - ticket.arrived)
        ticket.outputs.put(output)

    def _publish(self) -> None:
        engine, scheduler = self.engine, self.engine.scheduler
        self.metrics.publish(
            {
                "vllm:num_requests_running": len(scheduler.running),
                "vllm:num_requests_waiting": len(scheduler.waiting),
                "vllm:kv_cache_usage_perc": engine.pool.n_used / engine.pool.n_blocks,
            },
            {
                "vllm:prompt_tokens_total": engine.prompt_tokens_total,
                "vllm:generation_tokens_total": engine.generation_tokens_total,
                "vllm:num_preemptions_total": scheduler.n_preemptions,
                "vllm:prefix_cache_queries_total": scheduler.prefix_queries,
                "vllm:prefix_cache_hits_total": scheduler.prefix_hits,
            },
        )

    def _refuse_rest(self) -> None:
        while True:
            try:
                _, ticket = self._inbox.get(block=False)
            except queue.Empty:
                return
            if ticket is not None:
                ticket.outputs.put(EngineStoppedError("the engine is shutting down"))
