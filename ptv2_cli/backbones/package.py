"""Find a backbone in an installed package (`package:NAME/FOLDER`), without importing it."""

from __future__ import annotations

import re
from importlib import metadata, util
from pathlib import Path

from ptv2_cli.errors import BackboneError

PREFIX = "package:"
_NAME = re.compile(r"\w+(?:[.-]\w+)*")
_FORM = "write package:NAME/FOLDER, the import or distribution name and a folder inside it"


def package_folder(name: str) -> Path:
    """The folder that `package:NAME/FOLDER` names. No code of the package runs.

    NAME is the import name (also of a sub-package: `a.b`) or the name of the distribution.

    Raises:
        BackboneError: no such package is installed, or it has no such folder.
    """
    where = f"backbone {name}"
    package, _, inside = name.removeprefix(PREFIX).partition("/")
    if not _NAME.fullmatch(package):
        raise BackboneError.at(where, f"{package!r} is not a package name", _FORM)
    if ".." in inside.split("/") or inside.startswith("/") or "\0" in inside:
        raise BackboneError.at(where, f"{inside!r} is not a folder inside a package", _FORM)
    roots = [*_import_roots(package), *_distribution_roots(package)]
    if not roots:
        raise _absent(where, package)
    for root in roots:
        try:
            if (root / inside).is_dir():
                return (root / inside).resolve()
        except OSError:  # the name is too long, or the folder may not be read
            continue
    raise BackboneError.at(where, f"{roots[0]} has no folder {inside!r}", "name a folder inside it")


def _import_roots(package: str) -> list[Path]:
    """The folders of a package by its import name.

    The import system is asked only for the top name: for the spec of `a.b` Python would import `a`.
    """
    top, *inner = package.split(".")
    try:
        spec = util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    roots = (Path(root, *inner) for root in spec.submodule_search_locations or [])
    return [root for root in roots if root.is_dir()]


def _distribution_roots(distribution: str) -> list[Path]:
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    tops = {file.parts[0] for file in files if len(file.parts) > 1 and "-info" not in file.parts[0]}
    return [root for top in sorted(tops) for root in _import_roots(top)]


def _absent(where: str, package: str) -> BackboneError:
    top = package.partition(".")[0]
    try:
        known = util.find_spec(top) is not None
    except (ImportError, ValueError):
        known = False
    if known:
        return BackboneError.at(where, f"{package!r} is not a package with folders", _FORM)
    return BackboneError.at(
        where,
        f"no installed package has the name {package!r}",
        f"pip install {package.replace('_', '-')}",
    )
