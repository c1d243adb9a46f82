"""train.compile: compiled layers compute what plain ones do, with prompts, lanes and caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch._dynamo.utils import counters

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.compiling import compile_layers
from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.backbones.layer_split import layers_with_sites
from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.batch import Batch, collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.learner import Learner
from ptv2_cli.multiplex import Sharing
from ptv2_cli.training.events import StepDone

FolderOf = Callable[..., Path]
TEXTS = ((5, 9, 7), (8, 8, 8), (3, 11, 2))
"""Lengths of the rows of batches; one has no padding."""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Compiled code of other tests' models counts as versions of the same layer."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def batches() -> list[Batch]:
    return [
        collate(
            [
                Feature(row, list(range(6 + at, 6 + at + length)), label=row % 3)
                for row, length in enumerate(lengths)
            ],
            0,
            "sequence",
        )
        for at, lengths in enumerate(TEXTS)
    ]


def losses(learners: list[Learner], sharing: Sharing | None = None) -> torch.Tensor:
    """The loss of every learner for every batch, while AdamW trains what the methods train."""
    trained = [value for one in learners for value in one.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    seen = []
    for batch in batches():
        outputs = (sharing or Sharing()).forward(learners, [batch] * len(learners))
        each = [output.loss for output in outputs if output.loss is not None]
        torch.stack(each).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += [loss.detach() for loss in each]
    for one in learners:
        one.eval()
    with torch.inference_mode():
        outputs = (sharing or Sharing()).forward(learners, [batches()[0]] * len(learners))
        seen += [output.loss for output in outputs if output.loss is not None]
    return torch.stack(seen)


def loaded(folder: Path, backend: str | None, *, recomputes: bool = False) -> Backbone:
    backbone = tiny.load(folder)
    if recomputes:
        backbone.checkpoint_gradients()
    if backend is not None:
        compile_layers(backbone, backend)
    return backbone


def compare(
    folder: Path,
    backend: str,
    build: Callable[[Backbone], list[Learner]],
    sharing: Callable[[], Sharing] = Sharing,
    *,
    recomputes: bool = False,
) -> None:
    """Compiled layers train to the same losses, and there is compiled code at all."""
    plain = losses(build(loaded(folder, None, recomputes=recomputes)), sharing())
    assert counters["stats"]["unique_graphs"] == 0
    compiled = losses(build(loaded(folder, backend, recomputes=recomputes)), sharing())
    torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=0)
    assert counters["stats"]["unique_graphs"] > 0


def one(backbone: Backbone) -> list[Learner]:
    return [tiny.make_learner(backbone)]


def test_layers_are_compiled_once(folder_of: FolderOf) -> None:
    backbone = loaded(folder_of("bert"), "eager")
    layers = layers_with_sites(backbone.model)
    assert len(layers) == backbone.shape.layers
    compiled = [layer.forward for layer in layers]
    compile_layers(backbone.view(), "eager")  # another lane's
    assert [layer.forward for layer in layers] == compiled


def test_lanes_of_unequal_prompts(folder_of: FolderOf) -> None:
    def lanes(backbone: Backbone) -> list[Learner]:
        return [tiny.make_learner(backbone.view(), prompt_len=2 + at, seed=at) for at in range(2)]

    compare(folder_of("llama"), "eager", lanes)


def test_recomputed_activations(folder_of: FolderOf) -> None:
    compare(folder_of("bert"), "aot_eager", one, recomputes=True)


def test_cached_lower_layers(folder_of: FolderOf) -> None:
    def upper(backbone: Backbone) -> list[Learner]:
        return [tiny.make_learner(backbone, layers="last:1")]

    compare(folder_of("bert"), "eager", upper, lambda: Sharing(lower=LowerStates("memory")))


def test_a_run_loses_nothing_and_says_so(folder_of: FolderOf, tmp_path: Path) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    config = tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)
    sets = ("backbone.dropout=off", "train.epochs=1")

    def run(*more: str) -> tuple[str, list[float], dict[str, Any]]:
        seen: list[float] = []

        def listen(event: Any) -> None:
            if isinstance(event, StepDone):
                seen.append(float(event.loss))

        session, metrics = tiny.trained(config, tmp_path / "runs", *sets, *more, listen=listen)
        return session.resolved_run.fingerprint, seen, metrics

    plain, compiled = run(), run("train.compile=true")
    assert compiled[1] == pytest.approx(plain[1], abs=1e-4)
    assert len(plain[1]) == 6
    assert compiled[2]["metrics"] == plain[2]["metrics"]
    assert plain[0] != compiled[0]
    environments = [plain[2]["environment"], compiled[2]["environment"]]
    assert [found["compile"] for found in environments] == [False, True]
    assert counters["stats"]["unique_graphs"] > 0


def test_what_cannot_be_compiled_is_refused(
    folder_of: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    on = "train.compile=true"
    config = tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)
    assert "int8 weights cannot be compiled" in tiny.problems(config, on, "backbone.quantize=int8")
    other = tiny.write_config(tmp_path / "other.yaml", folder_of("deberta"), data)
    assert "deberta layers call their own attention" in tiny.problems(other, on)
    with pytest.raises(ConfigError, match=r"dropout.* cannot draw it"):
        tiny.opened(config, tmp_path / "runs", on)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler"):
        tiny.opened(config, tmp_path / "runs", on, "backbone.dropout=off")
