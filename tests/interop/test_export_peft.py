"""`ptv2 export --to peft`: peft loads the adapter and computes the run's logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from swapping import STEPS, batch_of, by_readme, exported, logits_of, make_run, real, reopened

from ptv2_cli.errors import InputError, RunError
from ptv2_cli.interop.opened import open_finished

FolderOf = Callable[[str], Path]


def check(run: Any, folder: Path, stock: str | None) -> None:
    """Export and compare; `stock`: the class with the head, None: the head is a separate file."""
    session = reopened(run)
    batch = batch_of(session, folder)
    ours = logits_of(session, batch)
    written = exported(run, folder / "adapter")
    theirs = by_readme(folder / "adapter", batch)
    assert ours.abs().max() > 0.1
    torch.testing.assert_close(real(batch, theirs), real(batch, ours), atol=1e-5, rtol=0)
    assert ("head.safetensors" in written.files) == (stock is None)
    assert f"import {stock or 'AutoModel'}, " in (folder / "adapter/README.md").read_text()


@pytest.mark.parametrize(
    ("family", "task", "stock", "changes"),
    [
        ("bert", "superglue/rte", "AutoModelForSequenceClassification", {}),
        (
            "bert",
            "superglue/rte",
            "AutoModelForSequenceClassification",
            {"method": {"reparam": "mlp", "reparam_hidden": 16, "init": "normal"}},
        ),
        (
            "gpt2",
            "superglue/rte",
            None,
            {"method": {"reparam": "residual", "reparam_hidden": 16, "freeze_first": True}},
        ),
        ("gpt2", "superglue/rte", None, {"method": {"key_lr_factor": 0.1}}),
        ("bert", "superglue/rte", None, {"head": {"pooling": "mean"}}),
        ("bert", "ner/conll2003", "AutoModelForTokenClassification", {}),
        ("bert", "qa/squad", None, {}),
        ("roberta", "superglue/rte", None, {}),
        ("roberta", "superglue/rte", None, {"head": {"pooling": "pooler"}}),
        ("roberta", "qa/squad", "AutoModelForQuestionAnswering", {}),
        ("electra", "ner/conll2003", "AutoModelForTokenClassification", {}),
        ("gpt2", "superglue/rte", None, {}),
        ("gpt2", "ner/conll2003", "AutoModelForTokenClassification", {}),
        ("llama", "superglue/rte", None, {}),
        ("llama", "ner/conll2003", "AutoModelForTokenClassification", {}),
        ("llama", "qa/squad", "AutoModelForQuestionAnswering", {}),
        ("qwen3", "superglue/rte", None, {}),
    ],
)
def test_prefix_logits_are_equal(
    tmp_path: Path,
    folder_of: FolderOf,
    family: str,
    task: str,
    stock: str | None,
    changes: dict[str, Any],
) -> None:
    check(make_run(tmp_path, folder_of(family), task, **changes), tmp_path, stock)


def test_a_run_in_bf16_is_written_in_fp32(tmp_path: Path, folder_of: FolderOf) -> None:
    train = {**STEPS, "precision": "bf16"}
    run = make_run(tmp_path, folder_of("bert"), train=train)
    learner = open_finished(run, offline=True).session().learner
    assert {weight.dtype for weight in learner.state_dict().values()} == {torch.float32}
    assert "README.md" in exported(run, tmp_path / "adapter").files


@pytest.mark.parametrize(
    ("family", "task"),
    [
        ("bert", "superglue/rte"),
        ("bert", "ner/conll2003"),
        ("albert", "superglue/rte"),
        ("roberta", "qa/squad"),
        ("modernbert", "superglue/rte"),
        ("llama", "superglue/rte"),
    ],
)
def test_prompt_tuning_logits_are_equal(
    tmp_path: Path, folder_of: FolderOf, family: str, task: str
) -> None:
    method = {"name": "prompt_tuning", "place": "before_cls"}
    check(make_run(tmp_path, folder_of(family), task, method=method), tmp_path, None)


def test_the_form_of_attention_that_the_run_had(tmp_path: Path, folder_of: FolderOf) -> None:
    """Long texts would be read sparsely, which the run never did."""
    method = {"name": "prompt_tuning", "place": "before_cls"}
    check(make_run(tmp_path, folder_of("big_bird"), method=method), tmp_path, None)
    assert '"attention_type": "original_full"' in (tmp_path / "adapter/README.md").read_text()


def test_regression(tmp_path: Path, folder_of: FolderOf) -> None:
    rows = [{"text": " ".join(tiny.WORDS[: 2 + at % 5]), "label": at / 3} for at in range(12)]
    for name in ("train", "validation"):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    config = tiny.write_config(
        tmp_path / "config.yaml",
        folder_of("bert"),
        tmp_path,
        task={"name": "text/regression", "data": str(tmp_path), "max_len": 24},
    )
    session, _ = tiny.trained(config, tmp_path / "runs")
    check(session.resolved_run.directory, tmp_path, "AutoModelForSequenceClassification")


def test_a_pooler_that_was_trained_goes_with_the_head(tmp_path: Path) -> None:
    """The checkpoint has none, so transformers would draw one at random."""
    backbone = tiny.save_model(tmp_path / "model", "bert", pooler=False)
    run = make_run(tmp_path, backbone)
    check(run, tmp_path, None)
    assert set(load_file(tmp_path / "adapter/head.safetensors")) == {
        "weight",
        "bias",
        "pooler.weight",
        "pooler.bias",
    }


def test_the_files_are_those_that_peft_writes(tmp_path: Path, folder_of: FolderOf) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    exported(make_run(tmp_path, folder_of("bert")), tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(folder_of("bert"), num_labels=2)
    model = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    model.save_pretrained(tmp_path / "again")
    ours, theirs = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("adapter", "again")
    )
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    configs = [
        json.loads((tmp_path / name / "adapter_config.json").read_text())
        for name in ("adapter", "again")
    ]
    assert {key: configs[1][key] for key in configs[0]} == configs[0]


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("bert", {"method": {"position_offset": "keep"}}, "positions begin after it (shift)"),
        ("bert", {"method": {"layers": "2-3"}}, "no way to leave one out"),
        ("bert", {"method": {"name": "prompt_tuning"}}, "before everything, the first token too"),
        ("bert", {"method": {"name": "ptuning_v1"}}, "not at the slots of a template"),
        (
            "bert",
            {"method": {"name": "head_only"}, "prompt_len": None},
            "there is no prompt to export",
        ),
        (
            "bert",
            {"method": {"name": "finetune"}, "prompt_len": None},
            "changed the whole backbone",
        ),
        ("albert", {}, "accept no past keys and values"),
        ("modernbert", {}, "accept no past keys and values"),
        ("bloom", {}, "hidden states would differ by"),
        ("t5", {}, "one prompt for both stacks"),
    ],
)
def test_refused_with_the_reason(
    tmp_path: Path, folder_of: FolderOf, family: str, changes: dict[str, Any], says: str
) -> None:
    run = make_run(tmp_path, folder_of(family), **changes)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError) as caught:
        exported(run, tmp_path / "adapter")
    assert says in str(caught.value)
    assert str(run.path) in str(caught.value)
    hint = caught.value.problems[0].hint
    assert ("--to merged" in hint) if "whole backbone" in says else hint
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_that_takes_prefixes_another_way_is_seen(
    tmp_path: Path, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stock model's hidden states are compared with ours before anything is written."""
    from ptv2_cli.interop import stock_models

    run = make_run(tmp_path, folder_of("gpt2"))
    real_cache = stock_models.DynamicCache
    monkeypatch.setattr(
        stock_models, "DynamicCache", lambda past: real_cache([(value, key) for key, value in past])
    )
    with pytest.raises(RunError, match=r"does not treat a PEFT prefix .* differ by"):
        exported(run, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(("window", "fits"), [(27, True), (26, False)])
def test_a_window_that_a_prefix_slides_out_of(tmp_path: Path, window: int, fits: bool) -> None:
    """Prompt 3 and text 24: the last tokens must still see PEFT's prefix."""
    backbone = tiny.save_model(tmp_path / "model", "mistral", sliding_window=window)
    run = make_run(tmp_path, backbone)
    if fits:
        assert exported(run, tmp_path / "adapter").files
    else:
        with pytest.raises(RunError, match="see 26 tokens, but prompt and text are up to 27"):
            exported(run, tmp_path / "adapter")


def test_layers_that_are_all_of_them_are_no_subset(tmp_path: Path, folder_of: FolderOf) -> None:
    run = make_run(tmp_path, folder_of("bert"), method={"layers": "1-3"})
    assert exported(run, tmp_path / "adapter").files


def test_places_that_are_taken(tmp_path: Path, folder_of: FolderOf) -> None:
    run = make_run(tmp_path, folder_of("bert"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        exported(run, tmp_path / "full")
    with pytest.raises(InputError, match="is a file"):
        exported(run, tmp_path / "full/file")
    (tmp_path / "empty").mkdir()
    exported(run, tmp_path / "empty")
    exported(run, tmp_path / "new/deep")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["deep"]


def test_nothing_is_left_after_a_failure(
    tmp_path: Path, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.interop import to_peft

    def broken(*arguments: Any) -> None:
        raise RuntimeError("the machine went down")

    run = make_run(tmp_path, folder_of("bert"))
    monkeypatch.setattr(to_peft, "save", broken)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError):
        exported(run, tmp_path / "adapter")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_diverged_or_has_not_finished(tmp_path: Path, folder_of: FolderOf) -> None:
    run = make_run(tmp_path, folder_of("bert"))
    metrics = json.loads(run.metrics.read_text())
    run.metrics.write_text(json.dumps({**metrics, "status": "diverged"}))
    with pytest.raises(RunError, match="diverged"):
        open_finished(run, offline=True)
    run.metrics.unlink()
    with pytest.raises(RunError, match="has not finished"):
        open_finished(run, offline=True)
