#!/usr/bin/env python3
"""Write the tables of docs/backbones.md from the table of families."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ptv2_cli.setup.pages import with_tables  # noqa: E402

PAGE = ROOT / "docs" / "backbones.md"
PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
print("docs/backbones.md")
