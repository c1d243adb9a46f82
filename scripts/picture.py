#!/usr/bin/env python3
"""Train the quick start, score it again, and draw what the terminal shows: docs/img/quickstart.svg.

    scripts/picture.py

The picture in the README is the output of this script. It takes a minute or two.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from ptv2_cli.cli.console import wrapped

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "img" / "quickstart.svg"
COMMANDS = ["ptv2 train configs/quickstart.yaml", "ptv2 eval"]
WIDTH = 80
FONTS = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
PTV2 = ROOT / ".venv" / "bin" / "ptv2"


def output(command: str, folder: Path) -> list[str]:
    """Run a command in a folder and return the lines that it prints.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    done = subprocess.run(
        [str(PTV2), *command.split()[1:]],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    # A terminal shows a progress bar in place of the lines about single steps. Times depend on the
    # machine.
    lines = [line for line in done.stdout.splitlines() if not line.startswith("step ")]
    return [re.sub(r", [\d.,]+ s of training .*|, eval [\d.]+ s", "", line) for line in lines]


def styled(line: str) -> Text:
    """A line of output with the colours that it has in a terminal."""
    text = Text(line)
    text.highlight_regex(r"^warning:", "yellow")
    text.highlight_regex(r"f1 [\d.]+", "bold green")
    return text


def main() -> None:
    """Run the commands in an empty folder that sees the configs, and write the picture."""
    console = Console(record=True, width=WIDTH, highlight=False, file=StringIO())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "configs").symlink_to(ROOT / "configs")
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "dim"), (command, "bold cyan")))
            for line in output(command, folder):
                for part in wrapped(styled(line), WIDTH):
                    console.print(part)
    console.print()
    svg = console.export_svg(title="ptv2", theme=DIMMED_MONOKAI, unique_id="quickstart")
    # rich loads a font from the network; use the reader's monospaced font instead.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", FONTS)
    PICTURE.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
