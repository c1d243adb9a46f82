"""Write the choice set: which of two or three reports supports a claim?

It uses the scenes of the entailment set. The right report has the name, number, place or date of
the claim; the second describes the same scene with other values; every other question has a third
report, of another scene. Run: python scripts/data/make_choice.py
"""

from __future__ import annotations

import json
import random
from typing import Any

import common as c
from make_entailment import make_pair, schedule

QUESTIONS = {"train": 600, "val": 150}


def make_rows(split: str, count: int) -> list[dict[str, Any]]:
    """All rows of a file."""
    rng = random.Random(f"choice {split}")
    names = "train" if split == "train" else "dev"
    # Half of a schedule is the contrast with values that the report does not name at all.
    plan = [family for family, mode in schedule(rng, 2 * count) if mode == "absent"]
    pairs = [make_pair(rng, names, family, "absent") for family in plan]
    rows = []
    for index, (good, bad) in enumerate(pairs):
        reports = [bad.premise]
        if index % 2:
            reports.append(pairs[index - 1][rng.randrange(2)].premise)
        rng.shuffle(reports)
        # In turn, so that every place is right equally often.
        answer = index // 2 % (len(reports) + 1)
        reports.insert(answer, good.premise)
        rows.append({"claim": good.hypothesis, "reports": reports, "answer": answer, "idx": index})
    return rows


def main() -> None:
    """Write both files."""
    folder = c.out_dir(__doc__, "choice")
    for split, count in QUESTIONS.items():
        lines = [json.dumps(row) + "\n" for row in make_rows(split, count)]
        c.write_text(folder / f"{split}.jsonl", "".join(lines))


if __name__ == "__main__":
    main()
