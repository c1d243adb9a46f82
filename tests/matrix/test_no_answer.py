"""SQuAD 2.0: what says "no answer" must be able to see the context, in every family."""

from __future__ import annotations

import pytest
import tiny

from ptv2_cli.backbones.families import FAMILIES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Questions that are all alike; half of their contexts hold the answer."""
    return tiny.write_squad(tmp_path_factory.mktemp("squad"), 48, 16, impossible=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_null_logits_differ_by_context(family, folder_of, data, tmp_path) -> None:
    config = tiny.write_config(
        tmp_path / "config.yaml",
        folder_of(family),
        data,
        task={"name": "qa/squad_v2", "data": str(data), "max_len": 24},
    )
    session = tiny.opened(config, tmp_path / "out")
    features = session.data.features("validation")
    outputs = session.predictor(features)
    nulls = [
        float(output["start"][feature.cls_at]) + float(output["end"][feature.cls_at])
        for feature, output in zip(features, outputs, strict=True)
    ]
    rounded = {round(null, 3) for null in nulls}
    assert len(rounded) > len(nulls) // 2, f"{family}: {sorted(rounded)}"
