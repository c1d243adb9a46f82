"""Runs of several methods together: equal to their parts, resumed, as lanes, and refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
import torch
from once_more import assert_read_again, method_tensors, trained_twice

from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.errors import RunError
from ptv2_cli.interop.merged import obstacles
from ptv2_cli.interop.opened import open_finished
from ptv2_cli.interop.to_peft import export_peft
from ptv2_cli.methods.merged import merged
from ptv2_cli.runs import trainer
from ptv2_cli.training.optim import LearningRates, build_optimizer

FolderOf = Callable[[str], Path]
LENGTHS = [9, 4]
PREFIX = {"name": "ptuning_v2", "dropout": "off"}
LORA = {"name": "lora", "r": 2, "target_modules": ["query", "value"]}
HOULSBY = {"name": "houlsby_adapter", "bottleneck": 4}
COMBINED: dict[str, dict[str, Any]] = {
    "lora": {"name": "combined", "of": ["ptuning_v2", {**LORA, "lr_factor": 0.5}]},
    "adapter": {"name": "combined", "of": [{**PREFIX, "lr_factor": 2}, HOULSBY, "bitfit"]},
    "mam": {"name": "mam", "bottleneck": 4},
}
TRAIN = {"lr": 0.02, "epochs": 2, "batch_size": 4, "eval_batch_size": 8, "seed": 11}
WITH_PEFT = pytest.mark.skipif(util.find_spec("peft") is None, reason="needs peft")
RUNS = [pytest.param("lora", marks=WITH_PEFT), "adapter", "mam"]


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=20, validation=12)


def moved(method: Any) -> Any:
    """The method with values far from those at its start."""
    draws = torch.Generator().manual_seed(3)
    for parameter in method.parameters():
        with torch.no_grad():
            parameter.normal_(0.0, 0.3, generator=draws)
    return method


@pytest.mark.parametrize("method", RUNS)
def test_an_interrupted_run_ends_like_one_that_was_not(
    method: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    config = tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), rte, method=COMBINED[method], train=TRAIN
    )
    whole, metrics = trained_twice(config, tmp_path)
    own = sum(tensor.numel() for tensor in method_tensors(whole).values())
    counts = metrics["parameters"]
    assert counts["prompt"] == 2 * 3 * 32 * 3
    assert counts["prompt"] + counts["adapter"] == own
    assert counts["trainable"] == own + counts["head"]
    assert_read_again(whole)
    with pytest.raises(RunError, match="PEFT"):
        export_peft(open_finished(whole, offline=True), tmp_path / "adapter")
    refusals = list(obstacles(open_finished(whole, offline=True)))
    assert refusals[0].hint == "ptv2 predict and ptv2 eval use it as it is"


@pytest.mark.parametrize("family", ["bert", "llama", "t5", "albert", "mpnet"])
def test_all_parts_act_in_one_pass(family: str, backbone_of: Any) -> None:
    """As a prefix and adapters that are put into the pass by hand."""
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    both = moved(
        tiny.make_method(
            backbone, "combined", 3, of=[PREFIX, HOULSBY, {"name": "parallel_adapter"}]
        )
    ).eval()
    prefix, houlsby, parallel = (method() for method in both.methods)
    assert prefix.offset == 3
    with torch.no_grad():
        found = backbone(batch, both())
        by_hand = backbone(
            batch,
            Prompts(
                keys_values=prefix.keys_values, offset=3, edits=merged(houlsby, parallel).edits
            ),
        )
        alone = [backbone(batch, part) for part in (prefix, houlsby, parallel)]
    assert torch.equal(found, by_hand)
    assert all((found - one).abs().max() > 1e-3 for one in alone)


@WITH_PEFT
def test_an_adapter_behind_a_layer_of_peft_sees_all_that_it_gives(folder_of: FolderOf) -> None:
    """LoRA in the very projection that the adapter stands behind."""
    lora = {"name": "lora", "r": 2, "target_modules": ["dense"]}
    for order in ([HOULSBY, lora], [lora, HOULSBY]):
        backbone = tiny.load(folder_of("bert")).eval()
        both = moved(tiny.make_method(backbone, "combined", None, of=order)).eval()
        houlsby = both.methods[order.index(HOULSBY)]
        wrapper = backbone.model.get_submodule(houlsby.names[0])
        seen: list[torch.Tensor] = []
        edits = dict(houlsby().edits)
        edit = edits[houlsby.names[0]]

        def spy(*pair: torch.Tensor, edit: Any = edit, seen: list[Any] = seen) -> torch.Tensor:
            seen.extend(pair)
            return edit(*pair)

        with torch.no_grad():
            backbone(tiny.text_batch(LENGTHS), Prompts(edits={**edits, houlsby.names[0]: spy}))
            inputs, output = seen
            expected = type(wrapper).forward(wrapper, inputs)
            torch.testing.assert_close(output, expected)
            base = wrapper.get_base_layer()
            assert (
                output - torch.nn.functional.linear(inputs, base.weight, base.bias)
            ).abs().max() > 0


def test_each_part_has_its_own_rate(folder_of: FolderOf) -> None:
    backbone = tiny.load(folder_of("bert"))
    learner = tiny.make_learner(backbone, "combined", 3, of=[{**PREFIX, "lr_factor": 4}, HOULSBY])
    optimizer = build_optimizer(learner, LearningRates(0.5, 0.1, 0.1), 0.0)
    rates = {
        id(value): group["peak_lr"] for group in optimizer.param_groups for value in group["params"]
    }
    prefix, houlsby = learner.method.methods
    assert {rates[id(value)] for value in prefix.parameters()} == {2.0}
    assert {rates[id(value)] for value in houlsby.parameters()} == {0.5}
    mam = tiny.make_method(backbone, "mam", 3)
    assert set(mam.rate_factors().values()) == {1.0, 50.0}


def test_a_lane_is_the_trial_alone(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(trainer, "CPU_ROWS", 64)
    trials: list[dict[str, Any]] = [
        {"method": COMBINED["adapter"], "prompt_len": 3},
        {"method": COMBINED["mam"], "prompt_len": 5, "train": {"batch_size": 7}},
        {"method": "ptuning_v2", "prompt_len": 2},
        {"method": {"name": "combined", "of": ["prompt_tuning", HOULSBY]}, "prompt_len": 2},
    ]
    few = {"steps": 6, "eval_every": 3, "lr": 0.02}
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials, dropout=0.1, train=few)
    alone = laned.sweep(configs, tmp_path / "alone", 1)
    lanes = laned.sweep(configs, tmp_path / "lanes", len(trials))
    assert {run.metrics["lanes"] for run in lanes.runs} == {len(trials)}
    for run, lane in zip(alone.runs, lanes.runs, strict=True):
        laned.assert_same(run, lane)
    assert len({run.losses[-1] for run in alone.runs}) == len(trials)


def test_the_written_config_is_the_same_run(folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    """Names alone, names with options, and all defaults written out are one run."""
    marks = []
    written = {"name": "combined", "of": ["p_tuning_v2", {"name": "bitfit", "lr_factor": 1}]}
    for number in range(2):
        path = tmp_path / f"c{number}.yaml"
        config = tiny.write_config(path, folder_of("bert"), rte, method=written)
        found = tiny.prepared(config, tmp_path / "runs")
        written = found.resolved.config.model_dump(mode="json")["method"]
        marks.append(found.fingerprint)
    assert marks[0] == marks[1]
    assert [part["name"] for part in written["of"]] == ["ptuning_v2", "bitfit"]


@pytest.mark.parametrize(
    ("of", "what"),
    [
        (["ptuning_v2", "ptuning_v2"], "ptuning_v2 and ptuning_v2 both train the attention of"),
        (["ptuning_v2", "prefix_tuning_plus"], "ptuning_v2 and prefix_tuning_plus both train"),
        (["prompt_tuning", "prompt_tuning"], "both train vectors among the word embeddings"),
        (["houlsby_adapter", HOULSBY], "houlsby_adapter and houlsby_adapter both train adapters"),
        (["bitfit", "finetune"], "finetune trains every weight of the backbone"),
        (["bitfit", "head_only"], "head_only adds nothing"),
        (["bitfit", "bitfit"], "bitfit and bitfit both train biases"),
        (["bitfit", "combined"], "of"),
        (["bitfit", "mam"], "mam consists of several methods itself"),
        (["bitfit", {"name": "bitfitt"}], "did you mean 'bitfit'"),
        (
            ["bitfit", {"name": "houlsby_adapter", "bottleneck": 0}],
            "houlsby_adapter.bottleneck must be 1 or more, not 0",
        ),
        (["bitfit", {"name": "lora", "rank": 8}], "did you mean lora.r? write {name: lora, r: 8}"),
        (["bitfit", {"name": "lora", "lr_factr": 8}], "unknown key lr_factr"),
        (["bitfit", {"name": "lora", "lr": 1e-3}], "write lr_factor"),
        (
            ["bitfit", {"name": "ptuning_v2", "softmax": "separat"}],
            "write {name: ptuning_v2, softmax: separate}",
        ),
        (["bitfit", {"name": "houlsby_adapter", "lr_factor": 0}], "lr_factor must be a number"),
        (["bitfit", {"name": "houlsby_adapter", "layers": "9"}], "layer 9 does not exist"),
        (["bitfit", {"r": 8}], "a method's name or a section with one"),
        (["bitfit"], "fewer than two methods"),
    ],
)
def test_what_cannot_be_combined_is_named(
    of: list[Any], what: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    path = tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), rte, method={"name": "combined", "of": of}
    )
    message = tiny.problems(path)
    assert what in message
    assert "c.yaml" in message


@WITH_PEFT
@pytest.mark.parametrize(
    ("of", "what"),
    [
        (["lora", "ia3"], "lora and ia3 both train layers of peft"),
        (["bitfit", "ln_tuning"], "bitfit and ln_tuning both train the norms"),
        (["bitfit", {"name": "lora", "target_modules": ["nothing"]}], "lora: target_modules"),
    ],
)
def test_methods_of_peft_that_cannot_be_combined(
    of: list[Any], what: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    path = tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), rte, method={"name": "combined", "of": of}
    )
    assert what in tiny.problems(path)


def test_combined_without_parts_is_named(folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    path = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), rte, method="combined")
    assert "of names fewer than two methods; write method: {name: comb" in tiny.problems(path)


@WITH_PEFT
def test_gates_read_hidden_states_of_layers_that_lora_is_in(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    of = [LORA, {**PREFIX, "gates": "apt"}, "bitfit"]
    path = tiny.write_config(
        tmp_path / "c.yaml",
        folder_of("bert"),
        rte,
        method={"name": "combined", "of": of},
        train={"steps": 2, "batch_size": 4, "seed": 11},
    )
    session, _ = tiny.trained(path, tmp_path / "runs")
    assert_read_again(session.resolved_run.directory)


def test_prefixes_of_different_layers_can_be_combined(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    of = [{**PREFIX, "layers": "1"}, {**PREFIX, "layers": "2-3", "lr_factor": 2}]
    path = tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), rte, method={"name": "combined", "of": of}
    )
    _, metrics = tiny.trained(path, tmp_path / "runs")
    assert metrics["parameters"]["prompt"] == 2 * 3 * 32 * 3


def test_two_methods_at_one_site_are_an_error(backbone_of: Any) -> None:
    prompts = tiny.random_prompts(backbone_of("bert"), 3)
    with pytest.raises(ValueError, match="keys_values"):
        merged(prompts, prompts)
    assert merged(Prompts(offset=1), Prompts(offset=2)).offset == 2
