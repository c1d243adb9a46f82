"""`train.shard: full`: two processes that share a backbone, against one that holds it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ranks
import tiny
import yaml
from safetensors.torch import load_file

from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.errors import RankEnded
from tests.distributed import test_exact as exact

FolderOf = Callable[[str], Path]


def upper(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """Layers without a graph, activations that are computed again, weights and sums in bf16."""
    train = {**exact.TRAIN, "gradient_checkpointing": True}
    backbone = {"name": str(folder_of("llama")), "dropout": "off", "dtype": "bf16"}
    changes = {"method": {"name": "ptuning_v2", "layers": "last:1"}, "backbone": backbone}
    return {**exact.sequence(folder, folder_of), "train": train, **changes}


def shared_layers(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """One module for all layers, and vectors among the word embeddings."""
    changes = {"method": "prompt_tuning", "backbone": str(folder_of("albert"))}
    return {**exact.sequence(folder, folder_of), **changes}


CASES = (
    *(exact.sequence, exact.accumulated, exact.lora, exact.rate, exact.tagging, exact.choice),
    *(exact.spans, exact.multi, exact.verbalizer, exact.generation, upper, shared_layers),
)


def write(case: Callable[..., dict[str, Any]], tmp_path: Path, folder_of: FolderOf) -> Path:
    """The config of a case, whose processes share the backbone."""
    path = exact.write(case, tmp_path, folder_of)
    content = yaml.safe_load(path.read_text())
    content["train"]["shard"] = "full"
    path.write_text(yaml.safe_dump(content))
    return path


def assert_trains_alike(config: Path, folder: Path, size: int, close: float) -> dict[str, Any]:
    """Train in one process and in several, and return what rank 0 of these found.

    Scores and predictions are compared where losses differ by 1e-5 at most.
    """
    alone = exact.trained(config, folder / "alone", ALONE)
    found = ranks.in_ranks(size, lambda group: exact.trained(config, folder / "several", group))
    first, other, *_ = found
    assert first["losses"] == pytest.approx(alone["losses"], abs=close)
    assert first["validation"] == pytest.approx(alone["validation"], abs=close)
    assert len(alone["losses"]) >= 3
    if close <= 1e-5:
        predictions = [exact.predictions(folder / name) for name in ("several", "alone")]
        exact.assert_close(*predictions)
        exact.assert_close(first["metrics"]["metrics"], alone["metrics"]["metrics"])
    assert first["metrics"]["fingerprint"] == alone["metrics"]["fingerprint"]
    assert first["metrics"]["parameters"] == alone["metrics"]["parameters"]
    assert other["metrics"] == first["metrics"]
    return first


def held(config: Path, output: Path, group: ProcessGroup) -> tuple[int, int]:
    """Bytes of the frozen weights of the layers: of all, and of those that a process holds."""
    session = tiny.opened(config, output, group=group)
    parameters = session.learner.backbone.parameters()
    parts = [value for value in parameters if hasattr(value, "_local_tensor")]
    return sum(value.nbytes for value in parts), sum(value._local_tensor.nbytes for value in parts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_shared_backbone_trains_what_a_whole_one_trains(
    case: Callable[..., dict[str, Any]], tmp_path: Path, folder_of: FolderOf
) -> None:
    config = write(case, tmp_path, folder_of)
    assert_trains_alike(config, tmp_path, 2, 1e-2 if case is upper else 1e-5)
    files = [
        load_file(next((tmp_path / name).glob("*/checkpoints/best-*.safetensors")))
        for name in ("several", "alone")
    ]
    shapes = [{name: value.shape for name, value in file.items()} for file in files]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("case", [exact.sequence, exact.spans, exact.generation])
def test_a_process_holds_its_part(
    case: Callable[..., dict[str, Any]], tmp_path: Path, folder_of: FolderOf
) -> None:
    config = write(case, tmp_path, folder_of)
    assert held(config, tmp_path / "runs", ALONE) == (0, 0)
    parts = ranks.in_ranks(2, lambda group: held(config, tmp_path / "runs", group))
    whole = {total for total, _ in parts}.pop()
    assert whole > 30_000
    assert [own for _, own in parts] == [whole // 2] * 2


def test_an_interruption_in_an_evaluation_ends_all_and_the_run_goes_on(
    tmp_path: Path, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with one process, which has the whole backbone again."""
    from ptv2_cli.runs.trainer import Trainer

    config = write(exact.sequence, tmp_path, folder_of)
    whole = exact.trained(config, tmp_path / "whole", ALONE)
    plain = Trainer._evaluation_check

    def stopped(group: ProcessGroup) -> Any:
        def check(trainer: Trainer) -> None:
            if group.rank == 1:  # the signal comes to one of them
                trainer.interrupts.signum = signal.SIGTERM
            plain(trainer)

        Trainer._evaluation_check = check  # type: ignore[method-assign]
        return tiny.trained(config, tmp_path / "runs", group=group)

    ended = ranks.in_ranks(2, stopped)
    assert [type(error).__name__ for error in ended] == ["Interrupted", "Interrupted"]
    _, metrics = tiny.trained(config, tmp_path / "runs", resume=True)
    exact.assert_close(metrics["metrics"], whole["metrics"]["metrics"])


def test_a_process_that_dies_ends_the_other(tmp_path: Path, folder_of: FolderOf) -> None:
    config = write(exact.sequence, tmp_path, folder_of)

    def trained(group: ProcessGroup) -> Any:
        session = tiny.opened(config, tmp_path / "runs", group=group)
        if group.rank == 1:
            layer = session.learner.backbone.model.encoder.layer[1]
            layer.register_forward_pre_hook(lambda *_: _end())
        return tiny.train(session)

    first, second = ranks.in_ranks(2, trained)
    assert isinstance(first, RankEnded)
    assert second is None


def _end() -> None:
    import os

    os._exit(9)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (("method=finetune", "prompt_len=null", "train.precision=fp16"), "the loss of fp16"),
        (("backbone.quantize=int8",), "do not work with backbone.quantize"),
        (("train.compile=true", "backbone.dropout=off"), "do not work with train.compile"),
        (("backbone.dropout=off", "train.cache=memory", "method=head_only"), "with train.cache"),
    ],
)
def test_what_cannot_be_shared(
    sets: tuple[str, ...], says: str, tmp_path: Path, folder_of: FolderOf
) -> None:
    config = write(exact.sequence, tmp_path, folder_of)
    assert says in tiny.problems(config, *sets)
