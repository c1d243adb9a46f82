"""The command line in this process: what it prints, its exit code, what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BASE = """\
method: ptuning_v2
backbone: {bert}
task: {{name: superglue/rte, data: {rte}, max_len: 24}}
prompt_len: 3
train: {{steps: 2, batch_size: 4, lr: 0.05}}
"""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Ptv2 = Callable[..., Result]
Refused = Callable[..., Result]


@dataclass(frozen=True)
class Material:
    """Folders that tests share and do not change."""

    bert: Path
    rte: Path
    ner: Path
    squad: Path

    def write(self, path: Path, text: str = "", **changes: Any) -> Path:
        """A config of two steps of RTE; `changes` replace keys, None drops one, `text` follows."""
        content = yaml.safe_load(BASE.format(bert=self.bert, rte=self.rte))
        content = {k: v for k, v in {**content, **changes}.items() if v is not None}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False, width=1000) + text)
        return path

    def task(self, **changes: Any) -> dict[str, Any]:
        """The `task:` section with changes."""
        return {"name": "superglue/rte", "data": str(self.rte), "max_len": 24, **changes}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"/"
        for path in sorted(folder.rglob("*"))
    }


def only_run(output: Path = Path("runs")) -> Path:
    """The one run directory."""
    (found,) = output.iterdir()
    return found
