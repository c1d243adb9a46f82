"""The files of a backbone's folder: the weights, and all files that count as the backbone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ptv2_cli.config.file_hashes import known_sha256
from ptv2_cli.errors import BackboneError

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weights in the order in which transformers looks for them."""
ADAPTER = "adapter_config.json"
FETCH_AGAIN = "the file is damaged: copy it again from where the model came from"
_CODE = ("config.json", "tokenizer_config.json")
"""Files whose `auto_map` names Python classes that transformers would import and run."""
_DOCUMENTS = (".md", ".rst", ".pdf", ".html", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
_DATA = (".csv", ".tsv", ".jsonl", ".parquet", ".yaml", ".yml", ".log", ".zip", ".gz", ".tar")
_PROGRAMS = (".py", ".ipynb", ".sh")
_OTHER_WEIGHTS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"),
    *(".ot", ".onnx", ".gguf", ".tflite", ".mlmodel"),
)
_UNREAD = frozenset((*_DOCUMENTS, *_DATA, *_PROGRAMS, *_OTHER_WEIGHTS))
"""Endings of files that transformers reads for no tokenizer, and for a model only as weights."""
_UNREAD_NAMES = frozenset({"README", "LICENSE", "LICENCE", "NOTICE"})


def read_json(path: Path) -> dict[str, Any]:
    """Read a file with a JSON mapping.

    Raises:
        FileNotFoundError: there is no such file.
        BackboneError: it cannot be read, or contains something else.
    """
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise BackboneError.at(str(path), what, f"check it with: ls -l {path}") from error
    except ValueError as error:
        raise BackboneError.at(str(path), f"is not JSON: {error}", FETCH_AGAIN) from None
    except RecursionError:
        raise BackboneError.at(str(path), "is nested too deeply", FETCH_AGAIN) from None
    if not isinstance(parsed, dict):
        raise BackboneError.at(str(path), "is not a JSON mapping", FETCH_AGAIN)
    return parsed


def named_weights(folder: Path, config: Mapping[str, Any]) -> tuple[Path, ...]:
    """The files that transformers loads the weights from, whether or not all exist.

    Empty if the folder has neither weights nor an index of them. `config` is the parsed
    config.json, whose `transformers_weights` may name other files than WEIGHTS.

    Raises:
        BackboneError: the index is damaged or names files outside the folder.
    """
    chosen = config.get("transformers_weights")
    if chosen is not None:
        source = folder / "config.json"
        names = [_inside(source, "transformers_weights", chosen)]
    else:
        names = [name for name in WEIGHTS if (folder / name).exists()][:1]
    if not names:
        return ()
    if not names[0].endswith(".index.json") or not (folder / names[0]).exists():
        return (folder / names[0],)
    index = folder / names[0]
    shards = weight_map(index).values()
    return tuple(sorted({folder / _inside(index, "weight_map", shard) for shard in shards}))


def weight_map(index: Path) -> dict[str, Any]:
    """Tensor name -> file name, from the index of weights in several files.

    Raises:
        BackboneError: the index is damaged.
    """
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise BackboneError.at(str(index), "has no weight_map that names files", FETCH_AGAIN)
    return shards


def _inside(source: Path, key: str, name: Any) -> str:
    """Check that `name` can be a file in the folder of `source`, and return it."""
    path = PurePosixPath(name) if isinstance(name, str) and "\0" not in name else None
    if path is None or not path.name or path.is_absolute() or ".." in path.parts:
        shown = json.dumps(name) if len(json.dumps(name)) <= 60 else f"{json.dumps(name)[:57]}..."
        raise BackboneError.at(
            str(source), f"{key} names {shown}, which is not a file in its folder", FETCH_AGAIN
        )
    return str(path)


def requested_code(folder: Path) -> list[str]:
    """The classes that the model's files ask transformers to import, such as modeling_x.XModel.

    Raises:
        BackboneError: a file that would name them is damaged.
    """
    classes: list[str] = []
    for name in _CODE:
        try:
            classes += _texts(read_json(folder / name).get("auto_map"))
        except FileNotFoundError:
            continue
    return list(dict.fromkeys(classes))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def digests(folder: Path, weights: Collection[Path]) -> dict[str, str]:
    """The sha256 of each file that model or tokenizer may read, by its name in the folder.

    Tokenizers of different families read different files, so a rule decides: the loaded weights,
    chat templates, and every file beside config.json, except hidden files, documents, data and
    other weights. A model with its own code may read any of those, and code in subfolders.

    Raises:
        InputError: a file cannot be read.
    """
    beside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if requested_code(folder):
        read = {*beside, *folder.rglob("*.py")}
    else:
        read = {path for path in beside if _may_be_read(path)}
    files = {*read, *weights, *(folder / "additional_chat_templates").glob("*.jinja")}
    return {
        path.relative_to(folder).as_posix(): known_sha256(path)
        for path in sorted(files)
        if path.is_file()
    }


def _may_be_read(path: Path) -> bool:
    return path.suffix.lower() not in _UNREAD and path.stem.upper() not in _UNREAD_NAMES
