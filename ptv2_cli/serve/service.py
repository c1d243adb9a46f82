"""The runs of a server: requests wait for their answers here; runs come and go."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ptv2_cli.errors import InputError, Problem, Ptv2Error
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.run_files import PredictionLine
from ptv2_cli.serve.batching import Answers, Batcher, Closed, Job, QueueFull
from ptv2_cli.serve.bodies import BodiesUnderWay
from ptv2_cli.serve.limits import Limits
from ptv2_cli.serve.measures import Measures
from ptv2_cli.serve.models import CheckedRows, Models, OpenModel
from ptv2_cli.serve.refusal import Refusal

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""A name that stands in a path as it is."""


@dataclass(eq=False)
class ServedRun:
    """A run that answers requests."""

    name: str
    model: OpenModel
    jobs: set[Job] = field(default_factory=set)
    """Its requests that wait or are being answered."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it has none."""

    def __post_init__(self) -> None:
        self.idle.set()


class Service:
    """Answers requests with runs; its methods are called in one event loop."""

    def __init__(
        self,
        limits: Limits,
        *,
        open_directory: Callable[[Path], RunDirectory],
        device: str = "auto",
        offline: bool = False,
        roots: Sequence[Path] = (),
    ) -> None:
        """Start the worker thread; no run is loaded.

        Args:
            limits: of the server.
            open_directory: gives the run of a path.
            device: auto, cpu, cuda or cuda:N.
            offline: never touch the network.
            roots: folders below which runs may be added while the server runs.
        """
        self.limits = limits
        self.measures = Measures()
        self.runs: dict[str, ServedRun] = {}
        self.draining = False
        self.bodies = BodiesUnderWay()
        self.roots = tuple(root.resolve() for root in roots)
        self._open_directory = open_directory
        self._device, self._offline = device, offline
        self._models = Models()
        self._changing = asyncio.Lock()
        self._waiting: dict[Job, asyncio.Future[list[PredictionLine]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.batcher = Batcher(
            self._answer,
            self._deliver,
            max_batch=limits.max_batch,
            max_wait=limits.max_wait,
            max_queue=limits.max_queue,
        )
        self.measures.queue.set_function(lambda: self.batcher.rows_waiting)
        self.measures.runs.set_function(lambda: len(self.runs))

    def find(self, name: str) -> ServedRun:
        """The run of that name.

        Raises:
            Refusal: 404, there is none.
        """
        if name not in self.runs:
            known = ", ".join(self.runs) or "none"
            what = "no such run is served"
            raise Refusal.of(404, name[:200], what, f"GET /runs lists them: {known}")
        return self.runs[name]

    def check_room(self) -> None:
        """Check that a request would be taken, before its body is read.

        Raises:
            Refusal: 503, with the seconds after which to try again.
        """
        with _as_refusal():
            self.batcher.check_room()

    async def predict(self, run: ServedRun, rows: CheckedRows) -> list[PredictionLine]:
        """The lines of a request's rows; if it is cancelled, its rows leave the queue.

        Raises:
            Refusal: 422, a row does not fit the model; 503, the queue is full, or memory gave out.
        """
        self._loop = asyncio.get_running_loop()
        # What is drawn for a whole batch would depend on the other requests.
        group = object() if run.model.draws_by_batch else run.model.group
        job = Job(group, len(rows.rows), rows)
        with _as_refusal():
            self.batcher.submit(job)
        self._waiting[job] = self._loop.create_future()
        run.jobs.add(job)
        run.idle.clear()
        # Delivered also when nobody waits any more: the run is busy until then.
        self._waiting[job].add_done_callback(lambda _: self._leave(run, job))
        try:
            return await asyncio.shield(self._waiting[job])
        except asyncio.CancelledError:
            if self.batcher.cancel(job):
                self._waiting[job].cancel()
            raise
        except Ptv2Error as error:
            status = 422 if isinstance(error, InputError) else 503
            raise Refusal(status, error.problems) from error

    async def add(self, path: Path, name: str | None = None) -> ServedRun:
        """Load a run and serve it from now on; while it loads, answers wait.

        Raises:
            Refusal: 409, the name is taken; 422, the name or the run cannot be used; 503, the
                server stops.
        """
        async with self._changing:
            try:
                run = await asyncio.to_thread(self._read, path)
                name = self._free_name(name or run.directory.resolve().name)
                with _as_refusal():
                    call = self.batcher.call(lambda: self._models.open(run))
                model = await _finished(call)
            except Ptv2Error as error:
                status = 422 if isinstance(error, InputError) else 503
                raise Refusal(status, error.problems) from error
            self.runs[name] = ServedRun(name, model)
            return self.runs[name]

    async def remove(self, name: str) -> None:
        """Serve a run no more: it takes no requests, answers those it has, and gives back memory.

        Raises:
            Refusal: 404, there is no such run.
        """
        run = self.find(name)
        del self.runs[name]
        await run.idle.wait()
        with _as_refusal():
            call = self.batcher.call(lambda: self._models.close(run.model))
        await _finished(call)
        if name not in self.runs:
            self.measures.forget(name)

    def _read(self, path: Path) -> Run:
        run = Run(self._open_directory(path), device=self._device, offline=self._offline)
        run.resolved  # noqa: B018 - reads its config and finds its backbone, in this thread
        run.device  # noqa: B018 - an unknown device is an error before anything is loaded
        return run

    def _free_name(self, name: str) -> str:
        if not NAME.fullmatch(name):
            what = f"{name[:200]!r} cannot stand in a path"
            hint = "give a name of letters, digits, '.', '_' and '-'"
            raise Refusal.of(422, "name", what, hint)
        if name in self.runs:
            hint = "give another name, or remove that run first"
            raise Refusal.of(409, "name", f"a run {name} is served already", hint)
        return name

    def _answer(self, batch: list[Job]) -> Answers:
        """In the worker: the lines of each job of a batch."""
        began = time.monotonic()
        answers = self._models.predict([job.content for job in batch])
        self.measures.batch_rows.observe(sum(job.rows for job in batch))
        self.measures.batch_seconds.observe(time.monotonic() - began)
        return answers

    def _deliver(self, batch: list[Job], answers: Answers) -> None:
        """In the worker: hand the answers to those who wait in the event loop."""
        assert self._loop is not None

        def hand_over() -> None:
            for job, answer in zip(batch, answers, strict=True):
                future = self._waiting[job]
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                    future.exception()  # nobody may wait for it any more: that is no error
                else:
                    future.set_result(answer)

        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(hand_over)

    def _leave(self, run: ServedRun, job: Job) -> None:
        del self._waiting[job]
        run.jobs.discard(job)
        if not run.jobs:
            run.idle.set()


async def _finished(call: Future[T]) -> T:
    """The result of a call in the worker; a request that is given up does not stop it."""
    return await asyncio.shield(asyncio.wrap_future(call))


@contextmanager
def _as_refusal() -> Iterator[None]:
    """Turn a full queue and a stopped server into answers of HTTP."""
    try:
        yield
    except QueueFull as error:
        problem = Problem("the queue", "is full", f"try again in {error.seconds} s")
        raise Refusal(503, [problem], {"Retry-After": str(error.seconds)}) from error
    except Closed as error:
        problem = Problem("the server", "is stopping", "send the request to another server")
        raise Refusal(503, [problem], {"Retry-After": "1"}) from error
