"""Answers over HTTP: those of `ptv2 predict`, whatever else is in the batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinds
import pytest
from serving import serving

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.results import as_line

RunOf = Callable[[str], Path]
RowsOf = Callable[[str], list[dict[str, Any]]]
MIXED = ("classification", "tagging", "qa", "choice")
"""Runs that share one backbone."""


def same(one: Any, other: Any) -> bool:
    """Equal but for the last digits of numbers."""
    if isinstance(one, float):
        return other == pytest.approx(one, abs=1e-5)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    "name",
    [*kinds.KINDS, "multi", "generation", "verbalizer", "own-finetune", "tagging-lora"],
)
def test_a_request_gets_what_predict_writes(
    name: str, run_of: RunOf, rows_of: RowsOf, opened: Callable[[str], Run]
) -> None:
    """To the last bit: a request that comes alone is a batch as that of `predict`."""
    if name.endswith("lora"):
        pytest.importorskip("peft")
    rows = rows_of(name)

    async def answers() -> tuple[list[dict[str, Any]], Any]:
        async with serving({"r": run_of(name)}) as server:
            listed = (await server.client.get("/runs")).json()["runs"]
            return await server.predict("r", rows), listed

    expected = [json.loads(as_line(line)) for line in opened(name).predict(rows)]
    lines, (listed,) = asyncio.run(answers())
    assert len(expected) >= 2
    assert lines == expected
    run = opened(name)
    assert (listed["task"], listed["kind"]) == (run.metrics["task"]["name"], run.task.kind)
    assert listed["score"] == run.metrics["selection"]["value"]


def test_rows_of_several_runs_share_forward_passes(
    run_of: RunOf, rows_of: RowsOf, opened: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward = Backbone.forward

    def counted(self: Any, batch: Any, prompts: Any) -> Any:
        passes.append(batch.input_ids.shape[0])
        return forward(self, batch, prompts)

    async def answers() -> list[list[dict[str, Any]]]:
        # The batch is full, and goes at once, when the last request has come.
        size = sum(len(rows_of(name)[:2]) for name in MIXED)
        runs = {name: run_of(name) for name in MIXED}
        async with serving(runs, max_batch=size, max_wait=60) as server:
            monkeypatch.setattr(Backbone, "forward", counted)
            wanted = (server.predict(name, rows_of(name)[:2]) for name in MIXED)
            found = await asyncio.gather(*wanted)
            monkeypatch.undo()
            tables = {
                run.model.session.learner.backbone.word_embeddings.data_ptr()
                for run in server.service.runs.values()
            }
            assert len(tables) == 1
            return found

    found = asyncio.run(answers())
    for name, lines in zip(MIXED, found, strict=True):
        expected = [json.loads(as_line(line)) for line in opened(name).predict(rows_of(name)[:2])]
        assert same(expected, lines)
    # A question has two or three choices; all inputs go through the backbone together.
    assert len(passes) == 1
    assert passes[0] >= 2 * len(MIXED)


def test_requests_to_one_run_share_a_batch(
    run_of: RunOf, rows_of: RowsOf, opened: Callable[[str], Run]
) -> None:
    rows = rows_of("tagging")

    async def answers() -> Any:
        async with serving({"r": run_of("tagging")}, max_batch=len(rows), max_wait=60) as server:
            found = await asyncio.gather(*(server.predict("r", [row]) for row in rows))
            text = (await server.client.get("/metrics")).text
            return [line for lines in found for line in lines], text

    found, text = asyncio.run(answers())
    assert same([json.loads(as_line(line)) for line in opened("tagging").predict(rows)], found)
    assert "ptv2_batch_rows_count 1.0\n" in text
    assert f"ptv2_batch_rows_sum {len(rows):.1f}\n" in text
    assert f'ptv2_rows_total{{run="r"}} {len(rows):.1f}\n' in text
    assert f'ptv2_requests_total{{path="/predict/{{run}}",status="200"}} {len(rows):.1f}' in text


def test_runs_that_cannot_share_are_served_beside_each_other(
    run_of: RunOf, rows_of: RowsOf, opened: Callable[[str], Run]
) -> None:
    names = ("own", "own-finetune", "generation")

    async def answers() -> Any:
        async with serving({name: run_of(name) for name in names}) as server:
            found = await asyncio.gather(*(server.predict(name, rows_of(name)) for name in names))
            return found, (await server.client.get("/runs")).json()["runs"]

    found, listed = asyncio.run(answers())
    for name, lines in zip(names, found, strict=True):
        assert lines == [json.loads(as_line(line)) for line in opened(name).predict(rows_of(name))]
    assert [run["name"] for run in listed] == list(names)
    assert all(run["shares_backbone_with"] == [] for run in listed)
    assert listed[0]["own_backbone_because"] is None
    assert listed[1]["own_backbone_because"] == "the backbone of a finetune run trained"
    assert "written by the backbone's own LM head" in listed[2]["own_backbone_because"]


def test_what_is_drawn_for_a_batch_does_not_depend_on_other_requests(
    run_of: RunOf, rows_of: RowsOf, opened: Callable[[str], Run]
) -> None:
    """Beams that draw take one generator for all rows of a batch."""
    rows = rows_of("drawn")[:4]

    async def answers() -> Any:
        async with serving({"r": run_of("drawn")}, max_wait=0.2) as server:
            found = await asyncio.gather(*(server.predict("r", [row]) for row in rows))
            return found, (await server.client.get("/metrics")).text

    found, text = asyncio.run(answers())
    run = opened("drawn")
    assert found == [[json.loads(as_line(line)) for line in run.predict([row])] for row in rows]
    assert "ptv2_batch_rows_count 4.0\n" in text


def test_texts_and_lists_of_texts_are_rows(run_of: RunOf) -> None:
    async def answers() -> Any:
        async with serving({"rte": run_of("classification"), "ner": run_of("tagging")}) as server:
            return (
                await server.predict("rte", [["a cat", "ann sat"]]),
                await server.predict("ner", ["ann sat"]),
            )

    (pair,), (text,) = asyncio.run(answers())
    assert pair["row"] == {"premise": "a cat", "hypothesis": "ann sat"}
    assert text["row"] == {"text": "ann sat", "tokens": ["ann", "sat"]}


def test_bad_rows_are_refused_in_the_words_of_predict(
    run_of: RunOf, opened: Callable[[str], Run]
) -> None:
    from ptv2_cli.errors import DataError

    good = {"premise": "a", "hypothesis": "b"}
    bad: list[Any] = [{"premise": "a"}, 3, {"premise": "a", "hypothesis": "\ud800"}, ["x"]]

    async def errors() -> Any:
        async with serving({"r": run_of("classification")}) as server:
            rows = [good, *bad, good]
            return await server.refused("/predict/r", {"rows": rows}, 422)

    found = asyncio.run(errors())
    assert [error["where"] for error in found] == ["rows:2", "rows:3", "rows:4", "rows:5"]
    for row, error in zip(bad, found, strict=True):
        with pytest.raises(DataError) as caught:
            opened("classification").predict([tuple(row) if isinstance(row, list) else row])
        (problem,) = caught.value.problems
        assert (error["what"], error["hint"]) == (problem.what, problem.hint)


def test_a_row_that_does_not_fit_fails_its_request_alone(
    run_of: RunOf, rows_of: RowsOf, opened: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.errors import UnfitRow
    from ptv2_cli.tasks.generation import Generation

    rows = rows_of("generation")[:3]
    encode = Generation.encode

    def picky(self: Any, rows: Any, encoder: Any) -> Any:
        for row in rows:
            if row.get("odd"):
                raise UnfitRow.of(row, "here", "is odd", "make it even")
        return encode(self, rows, encoder)

    monkeypatch.setattr(Generation, "encode", picky)
    odd = {**rows[0], "odd": True}

    async def answers() -> Any:
        async with serving({"r": run_of("generation")}, max_batch=4, max_wait=60) as server:
            return await asyncio.gather(
                server.predict("r", rows[:2]),
                server.refused("/predict/r", {"rows": [rows[0], odd]}, 422),
            )

    lines, errors = asyncio.run(answers())
    assert [line["row"] for line in lines] == rows[:2]
    assert errors == [{"where": "rows:2", "what": "is odd", "hint": "make it even"}]
