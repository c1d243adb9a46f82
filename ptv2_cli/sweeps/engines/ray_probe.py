"""What a node has installed. Ray sends this file's code along, so a node without ptv2 answers too.

Only the standard library may be imported here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import re
from pathlib import Path

LIBRARIES = ("torch", "transformers", "tokenizers")
"""Packages whose versions can change a result."""


def installed() -> dict[str, str | None]:
    """Name -> version of what a trial computes with; None: it is not installed."""
    python = ".".join(platform.python_version_tuple()[:2])
    versions: dict[str, str | None] = {"python": python, "ptv2": _own_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _own_version() -> str | None:
    """The version of ptv2 with a hash of its code: two checkouts have the same version."""
    spec = importlib.util.find_spec("ptv2_cli")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    code = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        code.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    text = (root / "version.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.*)"', text)
    return f"{version[1] if version else '?'} (code {code.hexdigest()[:8]})"
