"""Shared fixtures: tiny random backbones, made once for the whole session."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Runs are bit-equal for one thread count; it has to be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Equal examples in every run; PTV2_FUZZ asks for other and more ones, see scripts/fuzz.
settings.register_profile(
    "ptv2",
    derandomize=not os.environ.get("PTV2_FUZZ"),
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("ptv2")


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Files are not synced; tests of that count the calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """A shell without job control starts what is in its background deaf to Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests neither read nor fill the user's cache; commands that they start neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTV2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def _quick_garbage_collection() -> None:
    """Every trial of a sweep collects garbage: what libraries have made is none, and skipped."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`folder_of("bert")`: the folder of that family's tiny model; made on first use."""
    import tiny

    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = tiny.save_model(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def backbone_of(folder_of: Callable[..., Path]) -> Callable[..., Any]:
    """`backbone_of("bert")`: a loaded backbone in eval mode, shared: not to be changed."""
    import tiny

    made: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in made:
            made[family] = tiny.load(folder_of(family)).eval()
        return made[family]

    return get


TEXT = (
    "a b x y the cat dog mat sat on who where is it not in big red new york ann bob lives "
    "likes . , ? ! ' - 1 2 3"
)
PIECES = ["##s", "##ly", "##ing", "un", "##afford", "##able", "play", "##ed", *"cdefgh"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def wordpiece() -> Any:
    from transformers import BertTokenizerFast

    tokens = [*SPECIALS, *TEXT.split(), *PIECES]
    vocab = {token: index for index, token in enumerate(tokens)}
    return BertTokenizerFast(vocab=vocab)


SENTENCES = "the cat sat on the mat . who sat on the mat ? Ann lives in New York . it is big"


@pytest.fixture(scope="session")
def roberta() -> Any:
    import tiny
    from transformers import RobertaTokenizerFast

    return RobertaTokenizerFast(**tiny.bpe(SENTENCES, 400))


@pytest.fixture(scope="session")
def gpt2() -> Any:
    import tiny
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast(**tiny.bpe(SENTENCES, 400))


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    """`corpus.put(name, text)` writes a file of a data folder; `corpus.source` reads the folder."""
    from ptv2_cli.data.source import FolderSource

    def put(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        return path

    return SimpleNamespace(put=put, source=FolderSource(tmp_path), path=tmp_path)
