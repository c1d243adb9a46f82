"""Runs of PEFT's methods, exported: PEFT's adapter and the merged model give the run's logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from swapping import batch_of, by_readme, exported, logits_of, make_run, real, reopened
from test_written_texts import by_readme as written_by_readme
from test_written_texts import make_run as make_writer
from test_written_texts import written

from ptv2_cli.errors import RunError
from ptv2_cli.interop.merged import export_merged
from ptv2_cli.interop.opened import open_finished
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.predict import Run

FolderOf = Callable[[str], Path]
METHODS = ("lora", "dora", "rslora", "ia3", "ln_tuning")
CASES = [
    *(("bert", "superglue/rte", method, {}) for method in METHODS),
    *(("gpt2", "ner/conll2003", method, {}) for method in METHODS),
    ("bert", "superglue/rte", "lora", {"head": {"pooling": "mean"}}),
    ("bert", "qa/squad", "lora", {}),
    ("roberta", "superglue/rte", "ia3", {}),
    ("roberta", "qa/squad", "lora", {}),
    ("albert", "superglue/rte", "lora", {}),
    ("llama", "superglue/rte", "dora", {}),
    ("deberta-v2", "ner/conll2003", "lora", {}),
    ("modernbert", "ner/conll2003", "ln_tuning", {}),
]


def run_of(folder: Path, backbone: Path, task: str, method: str, **changes: Any) -> RunDirectory:
    return make_run(folder, backbone, task, method={"name": method}, prompt_len=None, **changes)


@pytest.mark.parametrize(("family", "task", "method", "changes"), CASES)
def test_peft_gives_equal_logits(
    family: str,
    task: str,
    method: str,
    changes: dict[str, Any],
    folder_of: FolderOf,
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, folder_of(family), task, method, **changes)
    session = reopened(run)
    batch = batch_of(session, tmp_path)
    ours = real(batch, logits_of(session, batch))
    exported(run, tmp_path / "adapter")
    theirs = real(batch, by_readme(tmp_path / "adapter", batch))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    kind = {"ia3": "IA3", "ln_tuning": "LN_TUNING"}.get(method, "LORA")
    assert config["peft_type"] == kind


@pytest.mark.parametrize(("family", "method"), [("gpt2", "lora"), ("t5", "lora"), ("t5", "ia3")])
def test_peft_writes_the_same(family: str, method: str, tmp_path: Path) -> None:
    run = make_writer(tmp_path, family, {"name": method})
    exported(run, tmp_path / "adapter")
    texts = [line["row"]["input"] for line in Run(run, offline=True).predictions()]
    ours = written(run)
    assert any(ours)
    assert written_by_readme(tmp_path / "adapter", texts) == ours


@pytest.mark.parametrize(
    ("family", "task", "method", "changes"), [*CASES, ("bert", "superglue/rte", "finetune", {})]
)
def test_the_merged_model_gives_equal_logits(
    family: str,
    task: str,
    method: str,
    changes: dict[str, Any],
    folder_of: FolderOf,
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, folder_of(family), task, method, **changes)
    session = reopened(run)
    batch = batch_of(session, tmp_path)
    ours = real(batch, logits_of(session, batch))
    files = export_merged(open_finished(run, offline=True), tmp_path / "model").files
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {*files}
    theirs = real(batch, by_readme(tmp_path / "model", batch))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert "import PeftModel" not in (tmp_path / "model/README.md").read_text()


@pytest.mark.parametrize(
    ("family", "method"), [("gpt2", "lora"), ("llama", "finetune"), ("t5", "ia3")]
)
def test_the_merged_model_writes_the_same(family: str, method: str, tmp_path: Path) -> None:
    run = make_writer(tmp_path, family, {"name": method})
    export_merged(open_finished(run, offline=True), tmp_path / "merged")
    texts = [line["row"]["input"] for line in Run(run, offline=True).predictions()]
    assert written_by_readme(tmp_path / "merged", texts) == written(run)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("ptuning_v2", "a prompt stands beside the text"),
        ("head_only", "only finetune and the methods of PEFT"),
    ],
)
def test_what_cannot_be_merged(method: str, said: str, folder_of: FolderOf, tmp_path: Path) -> None:
    length = 3 if method == "ptuning_v2" else None
    run = make_run(tmp_path, folder_of("bert"), method={"name": method}, prompt_len=length)
    with pytest.raises(RunError, match=said):
        export_merged(open_finished(run, offline=True), tmp_path / "merged")


def test_a_head_on_the_decoder_is_refused(folder_of: FolderOf, tmp_path: Path) -> None:
    run = run_of(tmp_path, folder_of("t5"), "superglue/rte", "lora")
    with pytest.raises(RunError, match="no class of transformers has a head that reads"):
        exported(run, tmp_path / "adapter")
    with pytest.raises(RunError, match="no class of transformers has a head that reads"):
        export_merged(open_finished(run, offline=True), tmp_path / "model")
