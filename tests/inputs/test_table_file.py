from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.table_file import read_table, write_table

TABLES = {
    "questions": [
        Feature(
            at,
            [5] * (at + 1),
            token_type_ids=[0] * (at + 1),
            label=(0, at),
            offsets=[None] * at + [(3, 9)],
            cls_at=at,
            truncated=at > 1,
        )
        for at in range(3)
    ],
    "numbers": [Feature(0, [5, 6], label=0.1), Feature(1, [7]), Feature(2, [])],
    "tags": [Feature(0, [5, 6], label=[1, -100], words=[0, None], task=1)],
    "nothing": [],
}


@pytest.mark.parametrize("name", TABLES)
def test_a_file_gives_the_table_back(name: str, tmp_path: Path) -> None:
    table = FeatureTable.of(TABLES[name])
    write_table(table, tmp_path / "t")
    found = read_table(tmp_path / "t")
    assert found is not None
    assert list(found) == TABLES[name]
    columns = table.columns()
    read = load_file(tmp_path / "t")  # by the library whose format it is
    assert {key: array.tolist() for key, array in read.items()} == {
        key: array.tolist() for key, array in columns.items()
    }
    assert {key: array.dtype for key, array in found.columns().items()} == {
        key: array.dtype for key, array in columns.items()
    }


def test_every_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_table(FeatureTable.of(TABLES["questions"]), path)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for at in (*range(8), *range(start, len(whole))):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_table(path) is None, at
    for size in (0, 4, 20, start, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert read_table(path) is None, size
    assert read_table(tmp_path / "none") is None
