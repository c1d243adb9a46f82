#!/usr/bin/env python3
"""Make the tables of results: every method at the best of its learning rates.

    PTV2_DATA=FOLDER scripts/results.py [--backbone minilm|smollm2] [--minutes M]
                                        [--only TASK]... [--seeds 11]

For each cell (method, prompt length, task) one seed chooses the learning rate on a held-out tenth
of train; then other seeds train with it and are scored on the official validation split. Finished
runs are skipped, so the script continues where it stopped. With --minutes it starts no cell after
that time, and missing cells are empty in the table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SEARCH_SEED = 10
SEEDS = "11,12,13"
FOLDERS = {
    "cb": "superglue/CB",
    "conll2003": "conll2003",
    "sst2": "sst2",
    "squad": "squad",
    "rte": "superglue/RTE",
    "conll2004": "conll2004",
    "boolq": "superglue/BoolQ",
}
KINDS = {"conll2003": "token", "conll2004": "token", "squad": "span"}
"""Of the tasks whose head reads every token; the others are of kind sequence."""
Rates = Mapping[str, str | Mapping[str, str]]
"""Method -> the learning rates to choose among, of all kinds or of each."""


@dataclass(frozen=True)
class Variant:
    """A row of a table: a method, its prompt length, and what else it sets."""

    method: str
    prompt_len: int | None = None
    section: str = ""
    """The whole section `method:`, where the name is not enough."""
    label: str = ""
    """Ends the names of its runs, where two rows have one method and length."""
    words: tuple[str, ...] = ()
    rates: str = ""
    """The learning rates to choose among, where they are not those of the method."""
    kinds: tuple[str, ...] = ("sequence", "token", "span")
    """Kinds of the tasks that it can do."""


@dataclass(frozen=True)
class Table:
    """What one table compares; variants in the order of their importance, as time may run out."""

    variants: tuple[Variant, ...]
    epochs: Mapping[str, int]
    """The same for every method of a task."""
    rates: Rates


ANSWERS = ("--set", "head.name=verbalizer", "--unset", "head.lr")
"""The model's own language-model head answers with a word."""
TAGS_FASTER = {"token": "3e-3,1e-2,3e-2", "span": "1e-3,3e-3,1e-2", "sequence": "1e-3,3e-3,1e-2"}
PREFIX_AND_LORA = "{name: combined, of: [lora, {name: ptuning_v2, lr_factor: 10}]}"
PREFIX_AND_BIASES = "{name: combined, of: [bitfit, {name: ptuning_v2, lr_factor: 10}]}"
TABLES = {
    "minilm": Table(
        (
            Variant("head_only"),
            Variant("ptuning_v2", 20),
            Variant("finetune"),
            Variant("prompt_tuning", 20),
            Variant("ptuning_v2", 100),
            Variant("lora"),
            Variant("houlsby_adapter"),
            Variant("bitfit"),
            Variant("mam", 30),
            Variant("ia3"),
            Variant("parallel_adapter"),
            Variant("ptuning_v1", 20),
            Variant("prompt_tuning", 100),
            Variant("prefix_tuning_plus"),
            Variant("combined", 20, PREFIX_AND_LORA),
            Variant("combined", 100, PREFIX_AND_BIASES, label="biases", rates="2e-3,5e-3,1e-2"),
            Variant("dora"),
            Variant("rslora"),
            Variant("ln_tuning"),
        ),
        {"cb": 10, "conll2003": 6, "sst2": 3, "rte": 3, "squad": 3},
        {
            "ptuning_v2": {
                "token": "3e-2,6e-2,1e-1",
                "span": "1e-2,3e-2,6e-2",
                "sequence": "5e-3,1e-2,3e-2",
            },
            "prompt_tuning": {
                "token": "3e-3,1e-2,3e-2",
                "span": "3e-3,1e-2,3e-2",
                "sequence": "1e-2,3e-2,1e-1",
            },
            "ptuning_v1": "3e-4,1e-3,3e-3",
            "head_only": TAGS_FASTER,
            "finetune": "5e-5,1e-4,2e-4",
            **dict.fromkeys(("lora", "dora", "rslora"), "5e-4,2e-3,8e-3"),
            "ia3": "3e-3,1e-2,3e-2",
            **dict.fromkeys(("ln_tuning", "houlsby_adapter"), "1e-3,3e-3,1e-2"),
            "bitfit": TAGS_FASTER,
            **dict.fromkeys(("parallel_adapter", "mam"), "1e-4,2e-4,5e-4"),
            "prefix_tuning_plus": "3e-3,5e-3,8e-3",
            "combined": "5e-4,1e-3,2e-3",
        },
    ),
    "smollm2": Table(
        (
            Variant("none", label="zero-shot", words=ANSWERS, kinds=("sequence",)),
            Variant(
                "none",
                label="4-shot",
                words=(*ANSWERS, "--set", "task.demonstrations=4"),
                kinds=("sequence",),
            ),
            Variant("ptuning_v2", 20, words=("--set", "method.init=vocab")),
            Variant("prompt_tuning", 20),
            Variant("head_only"),
            Variant("finetune"),
            Variant(
                "ptuning_v2",
                20,
                label="words",
                words=(*ANSWERS, "--set", "method.init=vocab"),
                kinds=("sequence",),
            ),
            Variant("ptuning_v1", 20),
        ),
        {"sst2": 3, "cb": 6, "rte": 3, "conll2004": 6, "boolq": 3, "squad": 3},
        {
            "ptuning_v2": {"token": "1e-2,3e-2", "span": "5e-3,1e-2", "sequence": "5e-3,1e-2"},
            "prompt_tuning": "1e-2,3e-2",
            "ptuning_v1": "3e-4,1e-3",
            "head_only": {"token": "1e-3,3e-3", "span": "1e-3,3e-3", "sequence": "3e-4,1e-3"},
            "finetune": "2e-5,5e-5",
        },
    ),
}
PROMPTS = {"ptuning_v2", "prompt_tuning", "ptuning_v1", "none"}
"""Methods whose head keeps the config's own rate; of others it has that of the search."""


@dataclass(frozen=True)
class Cell:
    """One variant on one task."""

    backbone: str
    task: str
    variant: Variant

    @property
    def kind(self) -> str:
        """Of the task's head."""
        return KINDS.get(self.task, "sequence")

    @property
    def name(self) -> str:
        """The name of its runs and sweeps."""
        variant = self.variant
        length = f"-p{variant.prompt_len}" if variant.prompt_len else ""
        label = f"-{variant.label}" if variant.label else ""
        return f"{self.task}-{variant.method}{length}{label}"

    @property
    def words(self) -> list[str]:
        """The config and the flags that both sweeps share."""
        data = Path(os.environ["PTV2_DATA"]) / FOLDERS[self.task]
        variant, epochs = self.variant, TABLES[self.backbone].epochs[self.task]
        length = (
            ["--set", f"prompt_len={variant.prompt_len}"]
            if variant.prompt_len
            else ["--unset", "prompt_len"]
        )
        rate = ["--unset", "head.lr"] if variant.method not in PROMPTS else []
        trains = ["--set", f"train.epochs={epochs}"] if variant.method != "none" else []
        return [
            str(ROOT / "configs" / f"{self.task}-{self.backbone}.yaml"),
            "--offline",
            *("--set", f"task.data={data}"),
            *("--set", f"method={variant.section or variant.method}"),
            *trains,
            *length,
            *rate,
            *variant.words,
        ]


def cells(backbone: str, only: list[str]) -> Iterator[Cell]:
    """All cells of a table."""
    table = TABLES[backbone]
    for variant in table.variants:
        for task in only or list(table.epochs):
            cell = Cell(backbone, task, variant)
            if cell.kind in variant.kinds:
                yield cell


def sweep(cell: Cell, name: str, output: Path, *words: str) -> None:
    """Run one `ptv2 sweep`; exit if it fails or is stopped."""
    command = [
        "ptv2",
        "sweep",
        *cell.words,
        "--set",
        f"name={name}",
        "--output",
        str(output),
        *words,
    ]
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code)


def best_rate(cell: Cell, output: Path) -> str:
    """Choose the learning rate on a tenth held out of train, with one seed."""
    name = f"{cell.name}-search"
    rates = cell.variant.rates or TABLES[cell.backbone].rates[cell.variant.method]
    if not isinstance(rates, str):
        rates = rates[cell.kind]
    sweep(
        cell,
        name,
        output,
        *("--set", "selection={split: holdout, fraction: 0.1}", "--set", "report=[holdout]"),
        *("--lr", rates, "--seed", str(SEARCH_SEED)),
    )
    (best,) = output.glob(f"sweeps/{name}-*/best.yaml")
    return str(yaml.safe_load(best.read_text(encoding="utf-8"))["train"]["lr"])


def main() -> None:
    """Run the cells as far as time allows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=list(TABLES), default="minilm")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--only", action="append", choices=list(FOLDERS), default=[])
    parser.add_argument("--seeds", default=SEEDS, help=f"of the scored runs; default: {SEEDS}")
    parser.add_argument("--output", type=Path, help="default: runs/results, runs/smollm2")
    arguments = parser.parse_args()
    if "PTV2_DATA" not in os.environ:
        sys.exit(
            "PTV2_DATA must name the folder of the data sets: PTV2_DATA=FOLDER scripts/results.py"
        )
    backbone = arguments.backbone
    output = arguments.output or ROOT / "runs" / ("results" if backbone == "minilm" else backbone)
    search, final = output / "search", output / "final"
    end = time.monotonic() + 60 * arguments.minutes
    for cell in cells(backbone, arguments.only):
        if time.monotonic() > end:
            break
        seeds = ("--seed", arguments.seeds)
        if cell.variant.method == "none":  # only the drawn demonstrations differ by seed
            few = "task.demonstrations=4" in cell.variant.words
            sweep(cell, cell.name, final, "--seed", arguments.seeds if few else "11")
        else:
            sweep(cell, cell.name, final, "--lr", best_rate(cell, search), *seeds)
    subprocess.run(["ptv2", "report", str(final), "--format", "markdown"], check=True)


if __name__ == "__main__":
    main()
