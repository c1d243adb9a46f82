"""A table of features as one file that is read by mapping it into memory.

The format is that of safetensors (a length, a JSON header, the arrays), written array by array, so
that no second copy of them is needed.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.inputs.feature_table import FeatureTable

CODES = {"BOOL": np.bool_, "U8": np.uint8, "I32": np.int32, "I64": np.int64, "F64": np.float64}
TYPES = {name: np.dtype(dtype).newbyteorder("<") for name, dtype in CODES.items()}
NAMES = {dtype: name for name, dtype in TYPES.items()}
LENGTH = 8
"""Bytes of the number before the header, which says how long the header is."""


def write_table(table: FeatureTable, path: Path) -> None:
    """Write a file that `read_table` reads."""
    columns = {name: np.ascontiguousarray(array) for name, array in table.columns().items()}
    header: dict[str, Any] = {"__metadata__": {}}
    end = 0
    # Those of the widest values first, so that each begins at a multiple of its values' size.
    names = sorted(columns, key=lambda name: -columns[name].itemsize)
    for name in names:
        array = columns[name]
        offsets = [end, end := end + array.nbytes]
        header[name] = {
            "dtype": NAMES[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        header["__metadata__"][name] = str(_checksum(array))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % LENGTH)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH, "little"))
        file.write(text)
        for name in names:
            file.write(_bytes(columns[name]))


def read_table(path: Path) -> FeatureTable | None:
    """The table of a file; None, where the file is damaged or cannot be read."""
    try:
        held = np.memmap(path, np.uint8, mode="c")
        size = int.from_bytes(held[:LENGTH].tobytes(), "little")
        header = json.loads(held[LENGTH : LENGTH + size].tobytes())
        checksums = header.pop("__metadata__")
        columns: dict[str, npt.NDArray[Any]] = {}
        for name, one in header.items():
            start, end = (LENGTH + size + at for at in one["data_offsets"])
            array = held[start:end].view(np.ndarray).view(TYPES[one["dtype"]])
            columns[name] = array.reshape(one["shape"])
            if str(_checksum(columns[name])) != checksums[name]:
                return None
        return FeatureTable.from_columns(columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(array: npt.NDArray[Any]) -> int:
    return zlib.crc32(_bytes(array))


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of an array, not copied."""
    return array.reshape(-1).view(np.uint8).data
