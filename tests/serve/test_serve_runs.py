"""Runs that are added and removed while a server answers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import Serving, serving
from test_serve_limits import ROW, stopped_worker

RunOf = Callable[[str], Path]


def adding(
    run_of: RunOf, steps: Callable[[Serving], Any], names: tuple[str, ...] = (), **options: Any
) -> Any:
    """What `steps` gives with a server of these runs, which may add what tests have trained."""
    roots = options.pop("roots", (run_of("classification").parents[2],))

    async def carried_out() -> Any:
        runs = {name: run_of(name) for name in names}
        async with serving(runs, roots=roots, **options) as server:
            return await steps(server)

    return asyncio.run(carried_out())


def test_a_run_is_added_over_the_backbone_that_is_loaded(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.serve import models

    loaded: list[Any] = []
    load = models.load_for
    monkeypatch.setattr(
        models, "load_for", lambda *arguments: loaded.append(load(*arguments)) or loaded[-1]
    )

    async def steps(server: Serving) -> Any:
        rows = [{"tokens": ["ann", "sat"]}]
        before = await server.refused("/predict/more", {"rows": rows}, 404)
        content = {"directory": str(run_of("tagging")), "name": "more"}
        added = await server.client.post("/runs", json=content)
        unnamed = await server.client.post("/runs", json={"directory": str(run_of("qa"))})
        return before, added, unnamed, await server.predict("more", rows)

    before, added, unnamed, lines = adding(run_of, steps, ("classification",))
    assert before[0]["what"] == "no such run is served"
    assert (added.status_code, unnamed.status_code) == (201, 201)
    assert added.json()["name"] == "more"
    assert added.json()["shares_backbone_with"] == ["classification"]
    assert added.json()["columns"] == ["tokens"]
    assert unnamed.json()["name"] == run_of("qa").name
    assert unnamed.json()["shares_backbone_with"] == ["classification", "more"]
    assert "tags" in lines[0]["prediction"]
    assert len(loaded) == 1


def test_a_removed_run_answers_what_it_has_and_gives_its_memory_back(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.serve.models import Models

    events: list[str] = []
    predict, close = Models.predict, Models.close

    def noted(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: events.append(name) or own(*arguments)

    monkeypatch.setattr(Models, "predict", noted("predict", predict))
    monkeypatch.setattr(Models, "close", noted("close", close))

    async def steps(server: Serving) -> Any:
        backbone = server.service.runs["classification"].model.group.backbone
        other = weakref.ref(server.service.runs["own-finetune"].model.session.learner)
        learner = weakref.ref(server.service.runs["classification"].model.session.learner)
        go_on = stopped_worker(server)
        under_way = asyncio.ensure_future(server.predict("classification", [ROW]))
        while not server.service.batcher.rows_waiting:
            await asyncio.sleep(0.001)
        leaving = asyncio.ensure_future(server.client.delete("/runs/classification"))
        while "classification" in server.service.runs:
            await asyncio.sleep(0.001)
        refused = await server.refused("/predict/classification", {"rows": [ROW]}, 404)
        left_early = leaving.done()
        go_on()
        answered, left = await under_way, await leaving
        await server.client.delete("/runs/own-finetune")
        gc.collect()
        still = await server.predict("tagging", ["ann sat"])
        kept = server.service.runs["tagging"].model.group.backbone is backbone
        again = await server.client.post(
            "/runs", json={"directory": str(run_of("classification")), "name": "classification"}
        )
        equal = await server.predict("classification", [ROW]) == answered
        text = (await server.client.get("/metrics")).text
        return (
            (refused[0]["what"], left_early, len(answered), left.status_code),
            (learner(), other(), len(still), kept),
            (again.status_code, equal, "ptv2_runs 2.0" in text),
        )

    names = ("classification", "tagging", "own-finetune")
    found, memory, again = adding(run_of, steps, names)
    assert found == ("no such run is served", False, 1, 204)
    assert memory == (None, None, 1, True)
    assert events == ["predict", "close", "close", "predict", "predict"]
    assert again == (201, True, True)


def test_runs_that_cannot_be_added(run_of: RunOf, tmp_path: Path) -> None:
    run, outside = run_of("classification"), tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(run)
    (root / "empty").mkdir()
    (root / "inside").symlink_to(root / "empty")
    cases: list[tuple[Any, int, str]] = [
        ({"directory": str(run)}, 403, "is not in a folder from which"),
        ({"directory": str(root / "link")}, 403, "is not in a folder from which"),
        ({"directory": str(root / ".." / "outside")}, 403, "is not in a folder from which"),
        ({"directory": str(root)}, 403, "is not in a folder from which"),
        ({"directory": "\0"}, 403, "is not in a folder from which"),
        ({"directory": str(root / "gone")}, 422, "there is no such run directory"),
        ({"directory": str(root / "inside")}, 422, "is no run directory"),
        ({"directory": 3}, 422, "is no text"),
        ({"name": "x"}, 422, "has no key 'directory'"),
        ({"directory": "x", "y": 1}, 422, "has the key 'y'"),
    ]

    async def steps(server: Serving) -> Any:
        return [await server.refused("/runs", content, status) for content, status, _ in cases]

    for (error,), (_, _, what) in zip(
        adding(run_of, steps, ("classification",), roots=(root,)), cases, strict=True
    ):
        assert what in error["what"]


def test_names_that_cannot_be_given(run_of: RunOf) -> None:
    path = str(run_of("tagging"))

    async def steps(server: Serving) -> Any:
        taken = await server.refused("/runs", {"directory": path, "name": "classification"}, 409)
        odd = [
            await server.refused("/runs", {"directory": path, "name": name}, 422)
            for name in ("a/b", "..", "ö", "x" * 201)
        ]
        gone = await server.refused("/runs/other", {}, 404, method="DELETE")
        return taken, odd, gone, list(server.service.runs)

    taken, odd, gone, runs = adding(run_of, steps, ("classification",))
    assert taken[0]["what"] == "a run classification is served already"
    assert all("cannot stand in a path" in error["what"] for (error,) in odd)
    assert gone[0]["what"] == "no such run is served"
    assert runs == ["classification"]


@pytest.mark.parametrize(
    ("options", "headers", "status"),
    [
        ({"roots": ()}, {}, 403),
        ({}, {"Host": "evil.example:8000"}, 403),
        ({}, {"Content-Type": "text/plain"}, 415),
        ({"token": "t"}, {}, 401),
        ({"token": "t"}, {"Authorization": "Bearer t", "Host": "models.example"}, 201),
        ({}, {"Host": "localhost:8000"}, 201),
        ({}, {"Host": "[::1]:8000"}, 201),
        ({}, {"Host": "[::1]"}, 201),
    ],
)
def test_who_may_change_the_runs(
    run_of: RunOf, options: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    async def steps(server: Serving) -> Any:
        headers_ = {"Content-Type": "application/json", **headers}
        content = f'{{"directory": "{run_of("tagging")}", "name": "more"}}'
        added = await server.client.post("/runs", content=content, headers=headers_)
        left = await server.client.delete("/runs/classification", headers=headers)
        return added.status_code, left.status_code

    added, left = adding(run_of, steps, ("classification",), **options)
    assert added == status
    assert left == (204 if status in {201, 415} else status)


def test_a_run_that_fails_to_load_changes_nothing(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.runs.prediction.predict import Run

    def failing(self: Any, shared: Any) -> Any:
        raise MemoryError

    async def steps(server: Serving) -> Any:
        monkeypatch.setattr(Run, "open", failing)
        content = {"directory": str(run_of("own-finetune")), "name": "more"}
        errors = await server.refused("/runs", content, 503)
        return errors, list(server.service.runs), await server.predict("classification", [ROW])

    errors, runs, lines = adding(run_of, steps, ("classification",))
    assert "no memory to load" in errors[0]["what"]
    assert runs == ["classification"]
    assert len(lines) == 1
