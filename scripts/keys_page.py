#!/usr/bin/env python3
"""Write docs/keys.md and docs/schema.json from the schema of a config."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ptv2_cli.setup.pages import keys_page  # noqa: E402
from ptv2_cli.setup.schema import config_schema, schema_text  # noqa: E402

schema = config_schema()
for name, text in (("keys.md", keys_page(schema)), ("schema.json", schema_text(schema))):
    (ROOT / "docs" / name).write_text(text, encoding="utf-8")
    print(f"docs/{name}")
