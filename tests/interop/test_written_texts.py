"""An exported run that writes: PEFT and the folded run write the same texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny
import torch
from swapping import exported
from transformers import AutoTokenizer

from ptv2_cli.errors import RunError
from ptv2_cli.interop.folded import export_folded
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.predict import Run

CHANGES: dict[str, dict[str, Any]] = {"gpt2": {"n_positions": 120}}


def make_run(folder: Path, family: str, method: dict[str, Any], **changes: Any) -> RunDirectory:
    """A run of three steps whose prompt is far from zero."""
    model = lm.save_writer(folder / "model", family, **CHANGES.get(family, {}))
    rows = lm.write_texts(folder / "rows", train=8, validation=6)
    config = tiny.write_config(
        folder / "config.yaml",
        model,
        rows,
        method=method,
        task={"name": "text/generation", "data": str(rows), "max_len": 36},
        train={"steps": 3, "lr": 0.3, "batch_size": 4},
        generate={"max_new_tokens": 8, **changes},
    )
    session, _ = tiny.trained(config, folder / "runs")
    return session.resolved_run.directory


def written(run: RunDirectory) -> list[str]:
    return [line["prediction"]["text"] for line in Run(run, offline=True).predictions()]


def by_readme(folder: Path, texts: list[str]) -> list[str]:
    """What the Python code of the README.md writes after each text."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    return [names["write"](text) for text in texts]


WIDE = {"name": "ptuning_v2", "init": {"normal": 0.7}}


@pytest.mark.parametrize(
    ("family", "method", "changes"),
    [
        ("gpt2", WIDE, {}),
        ("gpt2", WIDE, {"num_beams": 2}),
        ("llama", {**WIDE, "reparam": "mlp", "reparam_hidden": 16, "init": "normal"}, {}),
        ("llama", {"name": "prompt_tuning", "place": "before_cls"}, {}),
    ],
)
def test_peft_writes_the_same(
    tmp_path: Path, family: str, method: dict[str, Any], changes: dict[str, Any]
) -> None:
    run = make_run(tmp_path, family, method, **changes)
    files = exported(run, tmp_path / "adapter").files
    assert "head.safetensors" not in files
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM"
    texts = [line["row"]["input"] for line in Run(run, offline=True).predictions()]
    ours = written(run)
    assert len(set(ours)) > 1
    assert by_readme(tmp_path / "adapter", texts) == ours


def test_an_encoder_decoder_cannot_be_exported(tmp_path: Path) -> None:
    run = make_run(tmp_path, "t5", WIDE)
    with pytest.raises(RunError, match="PEFT has one prompt for both stacks"):
        exported(run, tmp_path / "adapter")


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_the_folded_run_writes_the_same(tmp_path: Path, family: str) -> None:
    method = {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 16}
    run = make_run(tmp_path, family, method)
    export_folded(run, tmp_path / "folded")
    rows = [line["row"] for line in Run(run, offline=True).predictions()]
    folded = Run(RunDirectory(tmp_path / "folded"), offline=True).predict(rows)
    assert [line["prediction"]["text"] for line in folded] == written(run)


def test_peft_writes_the_same_after_messages(tmp_path: Path) -> None:
    model = lm.save_writer(tmp_path / "model", "llama", chat=lm.CHAT, max_position_embeddings=120)
    rows = tmp_path / "rows"
    rows.mkdir()
    turn = {"role": "user", "content": "ann sees ?"}
    answers = [{"role": "assistant", "content": text} for text in ("a dog", "a cat")]
    lines = [json.dumps({"talk": [turn, answer]}) for answer in answers]
    for split in ("train", "validation"):
        (rows / f"{split}.jsonl").write_text("\n".join(lines))
    task = {"name": "text/generation", "data": str(rows), "messages": "talk", "max_len": 60}
    config = tiny.write_config(
        tmp_path / "config.yaml",
        model,
        rows,
        method=WIDE,
        task=task,
        train={"steps": 3, "lr": 0.3, "batch_size": 4},
        generate={"max_new_tokens": 8},
    )
    session, _ = tiny.trained(config, tmp_path / "runs")
    run = session.resolved_run.directory
    exported(run, tmp_path / "adapter")
    # The template writes special tokens, so that the tokenizer must not add them again.
    assert "add_special_tokens=False" in (tmp_path / "adapter" / "README.md").read_text()
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    assert by_readme(tmp_path / "adapter", [text]) == written(run)[:1]


def test_drawn_texts_are_drawn_among_the_same_tokens(tmp_path: Path) -> None:
    """Without top_k transformers draws among 50, the run among all."""
    run = make_run(tmp_path, "gpt2", WIDE, do_sample=True, temperature=20.0)
    exported(run, tmp_path / "adapter")
    assert "Tokens are drawn" in (tmp_path / "adapter" / "README.md").read_text()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = {text[:1] for text in by_readme(tmp_path / "adapter", ["ann"] * 120)}
    assert len(drawn) > 50  # of 50 tokens there are no more first characters
