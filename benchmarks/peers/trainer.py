#!/usr/bin/env python3
"""RTE by PEFT's prefix tuning and transformers' Trainer, as their documentation writes it.

    python benchmarks/peers/trainer.py --data FOLDER --backbone FOLDER --output FOLDER
        [--bf16] [--group-by-length] [--rows N] [--epochs N | --steps N]

Rows are padded to the longest of their batch, the Trainer's default. It evaluates and saves after
every epoch, and loads the best of them at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phases import Phases

LABELS = ["entailment", "not_entailment"]


def main() -> None:
    """Train, and write the phases and the validation accuracy."""
    asked = arguments()
    phases = Phases()
    import numpy as np
    from datasets import load_dataset
    from peft import PrefixTuningConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Ends phases as the Trainer goes on."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            phases.end("start")

        def on_step_end(self, *_: Any, **__: Any) -> None:
            phases.end("steps")

        def on_evaluate(self, *_: Any, **__: Any) -> None:
            phases.end("evaluation")

        def on_save(self, *_: Any, **__: Any) -> None:
            phases.end("saving")

    set_seed(asked.seed)
    tokenizer = AutoTokenizer.from_pretrained(asked.backbone)
    files = {"train": str(asked.data / "train.jsonl"), "validation": str(asked.data / "val.jsonl")}
    data = load_dataset("json", data_files=files)
    if asked.rows:
        data["train"] = data["train"].select(range(asked.rows))

    def encode(rows: dict[str, list[str]]) -> Any:
        pairs = (rows["premise"], rows["hypothesis"])
        encoded = tokenizer(*pairs, truncation=True, max_length=asked.max_len)
        encoded["label"] = [LABELS.index(label) for label in rows["label"]]
        return encoded

    data = data.map(encode, batched=True, remove_columns=data["train"].column_names)
    model = AutoModelForSequenceClassification.from_pretrained(
        asked.backbone, num_labels=len(LABELS)
    )
    prefix = PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=asked.prompt_len)
    trainer = Trainer(
        model=get_peft_model(model, prefix),
        args=TrainingArguments(
            output_dir=str(asked.output),
            learning_rate=asked.lr,
            num_train_epochs=asked.epochs,
            max_steps=asked.steps or -1,
            per_device_train_batch_size=asked.batch_size,
            per_device_eval_batch_size=64,
            train_sampling_strategy="group_by_length" if asked.group_by_length else "random",
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            bf16=asked.bf16,
            use_cpu=True,
            seed=asked.seed,
            report_to="none",
        ),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        compute_metrics=lambda found: {
            "accuracy": float((np.argmax(found.predictions, axis=-1) == found.label_ids).mean())
        },
        callbacks=[Clock()],
    )
    trainer.train()
    phases.end("end")
    if asked.phases:
        phases.write(asked.phases, score=trainer.state.best_metric)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="train.jsonl and val.jsonl")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--rows", type=int, help="rows to train on (default: all)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="in place of --epochs")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--prompt-len", type=int, default=20)
    parser.add_argument("--max-len", type=int, default=128)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--phases", type=Path, help="write seconds by phase to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
