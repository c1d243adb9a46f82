"""SQuAD files made on the spot."""

from __future__ import annotations

import json
from typing import Any


def squad_json(context: str, *questions: dict[str, Any]) -> str:
    article = {"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}
    return json.dumps({"version": "x", "data": [article]})
