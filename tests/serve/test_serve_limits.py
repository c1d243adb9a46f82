"""What a server refuses, and how much it reads before it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import Serving, serving

ROW = {"premise": "a", "hypothesis": "b"}
RunOf = Callable[[str], Path]


def scenario(run: Path, steps: Callable[[Serving], Any], **options: Any) -> Any:
    """What `steps` gives with a server of one run, `r`."""

    async def carried_out() -> Any:
        async with serving({"r": run}, **options) as server:
            return await steps(server)

    return asyncio.run(carried_out())


@pytest.fixture
def rte(run_of: RunOf) -> Path:
    return run_of("classification")


class Sender:
    """A client of the bare application: counts what is read of its body, keeps what it gets."""

    def __init__(self, parts: list[bytes], headers: dict[str, str], path: str = "/predict/r"):
        self.parts, self.read, self.read_at_answer = list(parts), 0, -1
        self.messages: list[dict[str, Any]] = []
        self.waits = False
        """Whether the client stops to send when `parts` are gone."""
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": raw,
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 5000),
        }

    async def receive(self) -> dict[str, Any]:
        if not self.parts and self.waits:
            await asyncio.Event().wait()
        if not self.parts:
            return {"type": "http.disconnect"}
        part = self.parts.pop(0)
        self.read += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.waits}

    async def send(self, message: dict[str, Any]) -> None:
        if not self.messages:
            self.read_at_answer = self.read
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def errors(self) -> Any:
        body = b"".join(message["body"] for message in self.messages[1:])
        return json.loads(body)["errors"]


def sent(run: Path, sender: Sender, **options: Any) -> Sender:
    async def steps(server: Serving) -> Sender:
        await server.app(sender.scope, sender.receive, sender.send)
        return sender

    return scenario(run, steps, **options)


def test_of_a_large_body_nothing_is_read_before_the_answer(rte: Path) -> None:
    parts = [b"x" * 1000] * 50
    found = sent(rte, Sender(parts, {"Content-Length": "50000"}), max_body=4000)
    assert (found.status, found.read_at_answer) == (413, 0)
    assert found.errors[0]["what"] == "has more than 4,000 bytes"
    assert found.headers["connection"] == "close"
    # The answer is whole before the rest is discarded, and the connection ends after that.
    assert found.messages[1]["more_body"]
    assert not found.messages[-1].get("more_body")
    assert found.read == 50_000


def test_a_body_of_unknown_length_is_read_up_to_the_limit(rte: Path) -> None:
    parts = [b"x" * 1000] * 50
    found = sent(rte, Sender(parts, {"Transfer-Encoding": "chunked"}), max_body=4000)
    assert (found.status, found.read_at_answer) == (413, 5000)
    assert found.headers["connection"] == "close"


def test_a_body_that_says_less_than_it_has_is_no_way_round_the_limit(rte: Path) -> None:
    found = sent(rte, Sender([b"x" * 1000] * 50, {"Content-Length": "10"}), max_body=4000)
    assert (found.status, found.read_at_answer) == (413, 5000)


def test_the_rest_of_an_endless_body_is_not_waited_for(rte: Path) -> None:
    sender = Sender([b"x" * 5000], {"Transfer-Encoding": "chunked"})
    sender.waits = True
    found = sent(rte, sender, max_body=4000, linger=0.05)
    assert found.status == 413
    assert not found.messages[-1].get("more_body")


def test_a_body_that_does_not_come_in_time(rte: Path) -> None:
    sender = Sender([b'{"rows": '], {"Transfer-Encoding": "chunked"})
    sender.waits = True
    found = sent(rte, sender, client_timeout=0.05, linger=0.05)
    assert found.status == 408
    assert found.headers["connection"] == "close"


def test_bodies_that_are_read_at_once_have_a_limit_together(rte: Path) -> None:
    async def steps(server: Serving) -> Any:
        slow = Sender([b" " * 3000], {"Transfer-Encoding": "chunked"})
        slow.waits = True
        reading = asyncio.ensure_future(server.app(slow.scope, slow.receive, slow.send))
        while server.service.bodies.size < 3000:
            await asyncio.sleep(0.001)
        body = json.dumps({"rows": [ROW] * 40}).encode()
        (error,) = await server.refused("/predict/r", body, 503)
        reading.cancel()
        await asyncio.wait([reading])
        lines = await server.predict("r", [ROW] * 40)
        return error, len(lines), server.service.bodies.size

    error, lines, left = scenario(rte, steps, max_bodies=4000, max_body=4000)
    assert error["what"] == "reads too many bodies at once"
    assert (lines, left) == (40, 0)


@pytest.mark.parametrize("path", ["/predict/r", "/predict/other", "/nowhere", "/runs"])
def test_without_the_token_no_body_is_read(rte: Path, path: str) -> None:
    sender = Sender([b"x" * 1000] * 3, {"Transfer-Encoding": "chunked"}, path)
    found = sent(rte, sender, token="secret")
    assert (found.status, found.read_at_answer) == (401, 0)
    assert found.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Bearer secret2", 401),
        ("Bearer", 401),
        ("Basic secret", 401),
        ("secret", 401),
        ("Bearer sécret", 401),
        ("Bearer secret", 200),
        ("bearer secret", 200),
    ],
)
def test_the_token(rte: Path, header: str | None, status: int) -> None:
    async def steps(server: Serving) -> Any:
        headers = {} if header is None else {"Authorization": header.encode()}
        answers = {}
        for path in ("/runs", "/metrics", "/health", "/docs", "/openapi.json"):
            answers[path] = (await server.client.get(path, headers=headers)).status_code
        answer = await server.client.post("/predict/r", json={"rows": [ROW]}, headers=headers)
        return {**answers, "/predict/r": answer.status_code}

    found = scenario(rte, steps, token="secret")
    assert [found.pop(path) for path in ("/health", "/docs", "/openapi.json")] == [200] * 3
    assert set(found.values()) == {status}


def test_tokens_are_compared_in_constant_time(rte: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptv2_cli.serve import access

    compared: list[tuple[bytes, bytes]] = []
    equal = access.hmac.compare_digest
    monkeypatch.setattr(
        access.hmac,
        "compare_digest",
        lambda one, two: compared.append((one, two)) or equal(one, two),
    )

    async def steps(server: Serving) -> None:
        await server.client.get("/runs", headers={"Authorization": "Bearer wrong"})

    scenario(rte, steps, token="secret")
    assert compared == [(b"wrong", b"secret")]


BODIES: list[tuple[Any, int, str, str]] = [
    (b"", 400, "the body", "is not JSON"),
    (b"{", 400, "the body", "is not JSON"),
    (b"\xff", 400, "the body", "is not UTF-8 at byte 0"),
    (b"[" * 5000, 400, "the body", "cannot be read"),
    (b'{"rows": [' + b"1" * 5000 + b"]}", 400, "the body", "cannot be read"),
    ([], 400, "the body", "is not a JSON object"),
    ({}, 422, "the body", "has no key 'rows'"),
    ({"rows": [ROW], "x": 1}, 422, "the body", "has the key 'x'; its keys are rows"),
    ({"rows": ROW}, 422, "rows", "is no list"),
    ({"rows": []}, 422, "rows", "holds no rows"),
    ({"rows": [ROW] * 4}, 413, "rows", "holds 4 rows, the limit is 3"),
    (
        {"rows": [ROW, {"premise": "x" * 60, "hypothesis": "y" * 60}]},
        413,
        "rows:2",
        "holds 120 characters, the limit is 100",
    ),
    ({"rows": [{**ROW, "more": [{"a": "x" * 100}]}]}, 413, "rows:1", "holds 102 characters"),
    (b'{"rows": [{"a": ' + b"[" * 300 + b"]" * 300 + b"}]}", 422, "rows:1", "nested more than"),
]


@pytest.mark.parametrize(("content", "status", "where", "what"), BODIES)
def test_bodies_that_are_refused(
    rte: Path, content: Any, status: int, where: str, what: str
) -> None:
    async def steps(server: Serving) -> Any:
        return await server.refused("/predict/r", content, status)

    (error,) = scenario(rte, steps, max_rows=3, max_chars=100)
    assert error["where"] == where
    assert what in error["what"]
    assert error["hint"]


def test_paths_that_are_not_there(rte: Path) -> None:
    async def steps(server: Serving) -> Any:
        return (
            await server.refused("/predict/other", {"rows": [ROW]}, 404),
            await server.refused("/nowhere", {}, 404),
            await server.refused("/predict/r", {}, 405, method="PUT"),
            (await server.client.get("/metrics")).text,
        )

    other, nowhere, method, counted = scenario(rte, steps)
    assert other[0] == {
        "where": "other",
        "what": "no such run is served",
        "hint": "GET /runs lists them: r",
    }
    assert nowhere[0]["where"] == "POST /nowhere"
    assert method[0]["where"] == "PUT /predict/r"
    assert 'ptv2_requests_total{path="other",status="404"} 1.0' in counted
    assert "nowhere" not in counted


def stopped_worker(server: Serving) -> Callable[[], None]:
    """Keep the worker from answering until the function that this gives is called."""
    import threading

    may_go_on, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        may_go_on.wait(60)

    server.service.batcher.call(wait)
    assert begun.wait(60)
    return may_go_on.set


def test_a_full_queue_answers_503_before_it_reads(rte: Path) -> None:
    async def steps(server: Serving) -> Any:
        go_on = stopped_worker(server)
        first = asyncio.ensure_future(server.predict("r", [ROW, ROW]))
        while not server.service.batcher.rows_waiting:
            await asyncio.sleep(0.001)
        sender = Sender([b"x" * 1000] * 3, {"Transfer-Encoding": "chunked"})
        await server.app(sender.scope, sender.receive, sender.send)
        go_on()
        return sender, await first, await server.predict("r", [ROW])

    sender, first, after = scenario(rte, steps, max_queue=2)
    assert (sender.status, sender.read_at_answer) == (503, 0)
    assert int(sender.headers["retry-after"]) >= 1
    assert sender.errors[0]["what"] == "is full"
    assert (len(first), len(after)) == (2, 1)


def test_an_answer_that_takes_too_long_gives_its_place_up(rte: Path) -> None:
    async def steps(server: Serving) -> Any:
        go_on = stopped_worker(server)
        errors = await server.refused("/predict/r", {"rows": [ROW]}, 504)
        waiting = server.service.batcher.rows_waiting
        idle = server.service.runs["r"].idle.is_set()
        go_on()
        return errors, waiting, idle

    errors, waiting, idle = scenario(rte, steps, timeout=0.1)
    assert "took more than 0.1 s" in errors[0]["what"]
    assert (waiting, idle) == (0, True)


def test_rows_of_a_client_that_has_gone_leave_the_queue(rte: Path) -> None:
    async def steps(server: Serving) -> Any:
        go_on = stopped_worker(server)
        body = json.dumps({"rows": [ROW]}).encode()
        sender = Sender([body], {"Content-Length": str(len(body))})  # then it disconnects
        await server.app(sender.scope, sender.receive, sender.send)
        waiting = server.service.batcher.rows_waiting
        go_on()
        return waiting, await server.predict("r", [ROW])

    waiting, lines = scenario(rte, steps)
    assert waiting == 0
    assert len(lines) == 1


def test_a_defect_is_said_and_the_server_goes_on(
    rte: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ptv2_cli.serve.models import Models

    own = Models.predict

    def failing(self: Any, requests: Any) -> Any:
        if any(row.get("odd") for request in requests for row in request.rows):
            raise ZeroDivisionError("odd")
        return own(self, requests)

    async def steps(server: Serving) -> Any:
        monkeypatch.setattr(Models, "predict", failing)
        return await asyncio.gather(
            server.predict("r", [ROW]),
            server.refused("/predict/r", {"rows": [{**ROW, "odd": 1}]}, 500),
            server.predict("r", [ROW]),
        )

    first, errors, last = scenario(rte, steps, max_batch=3, max_wait=60)
    assert first == last
    assert errors[0]["what"] == "this is a bug in ptv2"
    assert "ZeroDivisionError: odd" in caplog.text


def test_no_memory_is_said_and_the_server_goes_on(
    rte: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.serve import models

    own = models.predict

    def failing(requests: Any) -> Any:
        if any(len(request.features) > 2 for request in requests):
            raise MemoryError
        return own(requests)

    async def steps(server: Serving) -> Any:
        monkeypatch.setattr(models, "predict", failing)
        return await asyncio.gather(
            server.refused("/predict/r", {"rows": [ROW] * 3}, 503), server.predict("r", [ROW])
        )

    errors, lines = scenario(rte, steps, max_batch=4, max_wait=60)
    assert errors == [
        {"where": "", "what": "out of memory", "hint": "send fewer or shorter rows at once"}
    ]
    assert len(lines) == 1


def test_health_and_the_description_of_the_interface(rte: Path) -> None:
    async def steps(server: Serving) -> Any:
        well = await server.client.get("/health")
        server.service.draining = True
        return (
            well,
            await server.client.get("/health"),
            (await server.client.get("/openapi.json")).json(),
            (await server.client.get("/docs")).text,
        )

    well, stopping, schema, page = scenario(rte, steps)
    assert (well.status_code, well.json()["status"]) == (200, "ok")
    assert well.json()["runs"] == 1
    assert (stopping.status_code, stopping.json()["status"]) == (503, "draining")
    assert set(schema["paths"]) == {"/predict/{run}", "/runs", "/runs/{run}", "/health", "/metrics"}
    body = schema["paths"]["/predict/{run}"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["rows"]
    for path in schema["paths"]:
        assert f" {path}</code></h2>" in page
    # It works without the internet, and nothing of it comes from elsewhere.
    assert "http://127.0.0.1:8000/predict/NAME" in page
    assert not [part for part in ("https://", "<script", "src=") if part in page]
