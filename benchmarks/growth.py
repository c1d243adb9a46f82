#!/usr/bin/env python3
"""How the cost of ptv2 grows: of a step with its sizes, of `ptv2 predict` with the rows.

    python benchmarks/growth.py [--axis NAME] [--plot FILE.png] [--json FILE] [--largest]

*Steps* are those of `ptuning_v2` on a random BERT of MiniLM's shape (6 layers, hidden 384, 12
heads, 1,536 inside), in bf16 and with dropout, through ptv2's own loop, on made-up rows that fill
every token. One size changes at a time; the sizes of an axis take turns, and given is the median of
the processor time, one thread. What is expected:

    cost of the least step (one row of 2 tokens, prompt length 1) + scale * operations

The scale, seconds an operation, is the only number that is fitted: the median over all sizes.
Operations of a row of T tokens with P prompt positions in the upper n of L layers, hidden size H
and F inside, are counted from the shape:

    linear                  2 * T * (4 * H * H + 2 * H * F), in each layer
    attention               4 * T * (T + P) * H; without a prompt 4 * T * T * H
    forward                 linear + attention, of all L layers
    backward                linear + 2 * attention, of the n layers with prompts
    less                    2 * T * 3 * H * H: the lowest of these passes no gradient on

*Rows*: `ptv2 predict` with a BERT of 2 layers, hidden 64, in a process for each file of rows of 32
tokens. Expected is the time of one row + rows / rate, with the rate of the longest file, and the
memory of the shortest file. --largest adds files of 100,000 and 1,000,000 rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from parts.growth_rows import LARGEST, ROWS, measure_rows
from parts.material import write_model, write_rows

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Shape:
    """Of a BERT."""

    layers: int = 6
    hidden: int = 384
    heads: int = 12
    inside: int = 1536


@dataclass(frozen=True)
class Size:
    """Of a step."""

    rows: int = 8
    tokens: int = 64
    prompt_len: int = 20
    layers: int = 6
    """The upper layers that get prompts."""


@dataclass(frozen=True)
class Point:
    """One size and what it took."""

    at: int
    """Its place on the axis."""
    measured: float
    """Seconds of processor time; of the memory axis bytes."""
    expected: float


@dataclass(frozen=True)
class Axis:
    """Sizes that differ in one number."""

    title: str
    name: str
    """Of a field of Size."""
    values: tuple[int, ...]
    base: Size

    def sizes(self, layers: int) -> dict[int, Size]:
        """The sizes of a model with so many layers."""
        values = range(1, layers + 1) if self.name == "layers" else self.values
        base = replace(self.base, layers=layers)
        return {value: replace(base, **{self.name: value}) for value in values}


AXES = {
    "tokens": Axis("T, tokens of a row", "tokens", (16, 32, 64, 128, 256, 512), Size(rows=4)),
    "prompt": Axis("P, prompt length", "prompt_len", (1, 4, 16, 64, 128, 256), Size()),
    "batch": Axis("B, rows of a batch", "rows", (1, 2, 4, 8, 16, 32, 64, 128), Size(tokens=32)),
    "layers": Axis("layers with prompts", "layers", (), Size()),
}


def least_size(shape: Shape) -> Size:
    """Of the step whose cost is taken as that of any step before the first operation."""
    return Size(rows=1, tokens=2, prompt_len=1, layers=shape.layers)


def operations(shape: Shape, size: Size) -> float:
    """Multiplications and additions of a step, as the head of this file counts them."""
    linear = 2 * size.tokens * (4 * shape.hidden**2 + 2 * shape.hidden * shape.inside)
    plain = 4 * size.tokens * size.tokens * shape.hidden
    prompted = 4 * size.tokens * (size.tokens + size.prompt_len) * shape.hidden
    forward = shape.layers * linear + (shape.layers - size.layers) * plain + size.layers * prompted
    backward = size.layers * (linear + 2 * prompted) - 2 * size.tokens * 3 * shape.hidden**2
    return float(size.rows * (forward + backward))


def points(
    shape: Shape, times: Mapping[str, Mapping[int, float]], least: float
) -> tuple[dict[str, list[Point]], float]:
    """Measured and expected of every axis, and the scale: seconds of an operation."""
    sizes = {name: AXES[name].sizes(shape.layers) for name in times}
    first = operations(shape, least_size(shape))
    scales = [
        (seconds - least) / (operations(shape, sizes[name][at]) - first)
        for name, axis in times.items()
        for at, seconds in axis.items()
    ]
    scale = statistics.median(scales)
    return {
        name: [
            Point(at, seconds, least + scale * (operations(shape, sizes[name][at]) - first))
            for at, seconds in axis.items()
        ]
        for name, axis in times.items()
    }, scale


def measure_steps(
    shape: Shape, names: Sequence[str], repeat: int, sets: Sequence[str]
) -> tuple[dict[str, dict[int, float]], float]:
    """Processor seconds of a step of every size of the axes, and of the least step."""
    import torch

    wanted = {name: AXES[name].sizes(shape.layers) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        write_material(Path(folder), shape)
        steps = Steps(Path(folder), sets)
        torch.set_num_threads(1)
        smallest = least_size(shape)
        least = statistics.median(timed([lambda: steps.take(smallest)], 10 * repeat)[0])
        times = {}
        for name, sizes in wanted.items():
            works = [lambda size=size: steps.take(size) for size in sizes.values()]
            taken = timed(works, repeat)
            times[name] = dict(zip(sizes, map(statistics.median, taken), strict=True))
            print(f"measured: {name}", file=sys.stderr, flush=True)
    return times, least


def timed(works: Sequence[Callable[[], None]], repeat: int) -> list[list[float]]:
    """Processor seconds of each, done in turns; the first turn is not counted."""
    found: list[list[float]] = [[] for _ in works]
    for turn in range(repeat + 1):
        for work, seconds in zip(works, found, strict=True):
            began = time.process_time()
            work()
            if turn:
                seconds.append(time.process_time() - began)
    return found


def write_material(folder: Path, shape: Shape) -> None:
    """A random model, a few rows, a config."""
    write_model(
        folder / "model",
        "bert",
        "float32",
        {
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.inside,
            "max_position_embeddings": 1024,
        },
    )
    write_rows(folder, 4, 4)
    (folder / "config.yaml").write_text(
        f"method: ptuning_v2\nbackbone: {folder}/model\nprompt_len: 1\n"
        f"task: {{name: text/classification, data: {folder}, text: [text], label: label, "
        "max_len: 512}\ntrain: {lr: 1e-3, steps: 1000000, eval_every: 1000000}\n"
    )


class Steps:
    """Takes steps of any size; a learner is kept for every prompt."""

    def __init__(self, folder: Path, sets: Sequence[str]) -> None:
        self._folder = folder
        self._sets = sets
        self._lanes: dict[tuple[int, int], Any] = {}

    def take(self, size: Size) -> None:
        """One step: collated tensors, forward, backward, clipping, AdamW."""
        from ptv2_cli.multiplex import Sharing
        from ptv2_cli.training.loop import train_batch

        lane = self._lane(size)
        lane.batches.batch = _batch(size)
        train_batch([lane], Sharing())

    def _lane(self, size: Size) -> Any:
        import torch

        from ptv2_cli.config.load import load_config, parse_set
        from ptv2_cli.runs.resolved_run import prepare
        from ptv2_cli.runs.session import open_session

        key = (size.prompt_len, size.layers)
        if key not in self._lanes:
            method = f"method={{name: ptuning_v2, layers: last:{size.layers}}}"
            sets = [f"prompt_len={size.prompt_len}", method, *self._sets]
            loaded = load_config(self._folder / "config.yaml", [parse_set(text) for text in sets])
            prepared = prepare(loaded, self._folder / "runs", offline=True)
            session = open_session(prepared, torch.device("cpu"))
            self._lanes[key] = session.new_lane()
            self._lanes[key].batches = _OneBatch()
        return self._lanes[key]


class _OneBatch:
    """Stands for a BatchPlan: every step has the batch that is set."""

    steps_per_epoch = 1
    batch: Any = None

    def groups(self, epoch: int) -> list[list[list[int]]]:
        """One step of one batch."""
        return [[[0]]]

    def collate(self, indices: Sequence[int]) -> Any:
        """The batch."""
        return self.batch


def _batch(size: Size) -> Any:
    import torch

    from ptv2_cli.inputs.batch import Batch

    source = torch.Generator().manual_seed(0)
    shape = (size.rows, size.tokens)
    return Batch(
        input_ids=torch.randint(5, 1000, shape, generator=source),
        attention_mask=torch.ones(shape, dtype=torch.int64),
        targets=size.rows,
        token_type_ids=torch.zeros(shape, dtype=torch.int64),
        labels=torch.arange(size.rows) % 2,
    )


def show(title: str, found: Sequence[Point], unit: str) -> None:
    """Print the table of an axis."""
    print(f"\n| {title} | measured | expected | measured / expected |")
    print("| ---: | ---: | ---: | ---: |")
    for point in found:
        numbers = [written(value, unit) for value in (point.measured, point.expected)]
        ratio = point.measured / point.expected
        print(f"| {point.at:,} | {' | '.join(numbers)} | {ratio:.2f} |")


def written(value: float, unit: str) -> str:
    """A number with its unit."""
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:.1f} s" if value >= 10 else f"{1000 * value:,.1f} ms"


def main() -> None:
    """Measure, print the tables, draw the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--axis", choices=[*AXES, "rows"], action="append", help="default: all")
    parser.add_argument("--repeat", type=int, default=5, help="steps of each size (default 5)")
    parser.add_argument("--set", action="append", default=[], help="as of ptv2 train")
    parser.add_argument("--shape", type=int, nargs=4, metavar=("L", "H", "N", "F"))
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--largest", action="store_true", help="up to 1,000,000 rows")
    parser.add_argument("--plot", type=Path, help="draw all axes into this PNG file")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    shape = Shape(*asked.shape) if asked.shape else Shape()
    axes = asked.axis or [*AXES, "rows"]
    found: dict[str, list[Point]] = {}
    titles = {name: axis.title for name, axis in AXES.items()}
    if steps := [name for name in axes if name != "rows"]:
        sets = ["train.precision=bf16", *asked.set]
        times, least = measure_steps(shape, steps, asked.repeat, sets)
        found, scale = points(shape, times, least)
        print(f"{shape}, {', '.join(sets)}")
        print(f"least step {1000 * least:.1f} ms, {1 / scale / 1e9:.1f} GFLOP/s beyond it")
        for name in steps:
            show(f"{titles[name]}", found[name], "seconds")
    if "rows" in axes:
        counts = sorted({*asked.rows, *(LARGEST if asked.largest else ())})
        cpu, memory, rate = measure_rows(counts)
        found["rows"] = [Point(*point) for point in cpu]
        found["memory"] = [Point(*point) for point in memory]
        titles |= {
            "rows": "rows of `ptv2 predict`",
            "memory": "rows of `ptv2 predict`, peak memory",
        }
        show(titles["rows"], found["rows"], "seconds")
        print(f"\n{rate:,.0f} rows/s beyond the start")
        show(titles["memory"], found["memory"], "bytes")
    if asked.plot:
        from parts.growth_plot import draw

        draw(found, titles, asked.plot)
    if asked.json:
        content = {name: [asdict(point) for point in axis] for name, axis in found.items()}
        asked.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
