"""How far a run moves what its language model says elsewhere, against stock transformers."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny
import torch
import transformers
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.config.retention import RetentionSection
from ptv2_cli.errors import ConfigError
from ptv2_cli.heads import divergence as chunks
from ptv2_cli.runs import retention
from ptv2_cli.runs.resolve.retention_rules import SHIPPED
from ptv2_cli.runs.retention import measure_retention

WORDS = 60
P = 3


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lm.save_causal(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere.txt"
    path.write_text(" ".join(tiny.WORDS[at % len(tiny.WORDS)] for at in range(WORDS)))
    return path


def config(tmp_path: Path, backbone: Path, **changes: Any) -> Path:
    data = lm.write_rows(tmp_path / "rows")
    task = {"name": "text/classification", "data": str(data), "max_len": 24}
    train = {"lr": 0.05, "steps": 4, "batch_size": 4}
    return tiny.write_config(
        tmp_path / "config.yaml", backbone, data, **{"task": task, "train": train, **changes}
    )


def by_hand(session: Any, backbone: Path, text: Path, length: int) -> dict[str, float]:
    """Stock GPT-2 with the trained keys and values in its cache, beside stock GPT-2 without."""
    model = transformers.GPT2LMHeadModel.from_pretrained(backbone).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(backbone)
    ids = tokenizer(text.read_text())["input_ids"]
    prompts = session.learner.eval().prompts().keys_values
    kls, before, after = [], [], []
    with torch.no_grad():
        for first in range(0, len(ids), length):
            piece = torch.tensor([ids[first : first + length]])
            cache = transformers.DynamicCache()
            for layer, (keys, values) in prompts.items():
                cache.update(keys, values, layer)
            width = piece.shape[1]
            bare = model(piece).logits[0, :-1].log_softmax(-1)
            own = (
                model(
                    piece,
                    past_key_values=cache,
                    attention_mask=torch.ones(1, P + width, dtype=torch.long),
                    position_ids=torch.arange(P, P + width)[None],
                )
                .logits[0, :-1]
                .log_softmax(-1)
            )
            kls.append(F.kl_div(own, bare, reduction="none", log_target=True).sum(-1))
            for losses, scores in ((before, bare), (after, own)):
                losses.append(-scores.gather(1, piece[0, 1:, None])[:, 0])
    kl, old, new = (torch.cat(parts) for parts in (kls, before, after))
    return {
        "kl": float(kl.mean()),
        "bare_perplexity": math.exp(float(old.mean())),
        "perplexity": math.exp(float(new.mean())),
        "tokens": len(kl),
        "pieces": len(kls),
    }


@pytest.mark.parametrize("head", ["sequence", "verbalizer"])
def test_equal_to_stock_transformers(
    gpt2: Path, tmp_path: Path, text: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK", 25)
    section = {"text": str(text), "max_tokens": 1000}
    changes: dict[str, Any] = {"retention": section}
    if head == "verbalizer":
        words = {"right": "true", "wrong": "false"}
        changes["head"] = {"name": "verbalizer", "words": words, "template": lm.TEMPLATE}
    session, metrics = tiny.trained(config(tmp_path, gpt2, **changes), tmp_path / "runs")
    session.load_best()
    found = metrics["retention"]
    for name, value in by_hand(session, gpt2, text, 25).items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert found["kl"] > 1e-3
    assert found["pieces"] >= 3
    assert found["kl_standard_error"] > 0
    assert found["sha256"] == hashlib.sha256(text.read_bytes()).hexdigest()
    assert found["text"] == str(text)
    written = json.loads(session.resolved_run.directory.metrics.read_text())
    assert written["retention"] == found


def test_standard_errors_by_hand() -> None:
    """Over pieces of equal length that of their means; of exp(x) that of x times exp(x)."""
    means = (1.0, 2.0, 4.0)
    found = retention._mean([(5, 5 * mean) for mean in means], 15)
    assert found.value == pytest.approx(statistics.fmean(means))
    assert found.error == pytest.approx(statistics.stdev(means) / math.sqrt(len(means)))
    perplexity = retention._Mean(math.log(8), 0.1).perplexity
    assert (perplexity.value, perplexity.error) == pytest.approx((8, 0.8))


def test_what_changes_nothing_has_kl_0(gpt2: Path, tmp_path: Path) -> None:
    _, metrics = tiny.trained(
        config(tmp_path, gpt2, retention=True, method="head_only", prompt_len=None),
        tmp_path / "runs",
    )
    found = metrics["retention"]
    assert found["kl"] == 0
    assert found["perplexity"] == found["bare_perplexity"]
    assert found["sha256"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert found["text"] == "plain_prose.txt"


def test_keys_that_nobody_looks_at_change_nothing(gpt2: Path, tmp_path: Path, text: Path) -> None:
    session = tiny.opened(config(tmp_path, gpt2, method=KEEP), tmp_path / "runs")
    learner = session.learner
    hidden = torch.zeros(1, P, dtype=torch.bool)
    made = learner.method.forward

    def masked() -> Prompts:
        prompts = made()
        values = {
            site: (torch.zeros_like(keys), torch.zeros_like(values))
            for site, (keys, values) in (prompts.keys_values or {}).items()
        }
        return Prompts(keys_values=values, mask=hidden, offset=prompts.offset)

    learner.method.forward = masked
    found = measure_retention(session, RetentionSection(text=str(text)))
    assert found["kl"] < 1e-7
    learner.method.forward = made
    assert measure_retention(session, RetentionSection(text=str(text)))["kl"] > 1e-6


KEEP = {"name": "ptuning_v2", "position_offset": "keep", "init": {"normal": 1.0}}


@pytest.mark.parametrize("method", ["prompt_tuning", "ptuning_v1", "finetune"])
def test_other_methods(gpt2: Path, tmp_path: Path, text: Path, method: str) -> None:
    """Vectors stand before the text; a backbone that trains is compared with its own files."""
    length = None if method == "finetune" else 4
    path = config(tmp_path, gpt2, method=method, prompt_len=length, retention={"text": str(text)})
    session, metrics = tiny.trained(path, tmp_path / "runs")
    found = metrics["retention"]
    assert found["kl"] > 1e-6
    model = transformers.GPT2LMHeadModel.from_pretrained(gpt2).eval()
    ids = session.data.encoder.tokenizer(text.read_text(), return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = float(model(ids, labels=ids).loss)
    assert found["pieces"] == 1
    assert found["kl_standard_error"] is None
    assert found["bare_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    if method == "finetune":
        session.load_best()
        trained = session.learner.backbone.model.state_dict()
        model.transformer.load_state_dict(trained)
        with torch.no_grad():
            tuned = float(model(ids, labels=ids).loss)
        assert found["perplexity"] == pytest.approx(math.exp(tuned), rel=1e-4)


@pytest.mark.parametrize(("method", "loads"), [("ptuning_v2", 0), ("finetune", 1)])
def test_a_run_that_writes_uses_its_own_language_model(
    gpt2: Path,
    tmp_path: Path,
    text: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    loads: int,
) -> None:
    """Only the bare model of a backbone that trains is loaded again."""
    rows = tmp_path / "rows"
    rows.mkdir()
    for name in ("train", "val"):
        lines = [json.dumps({"input": "ann likes", "output": word}) for word in ("true", "false")]
        (rows / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    path = tiny.write_config(
        tmp_path / "config.yaml",
        gpt2,
        rows,
        method=method,
        prompt_len=3 if method == "ptuning_v2" else None,
        task={"name": "text/generation", "data": str(rows), "max_len": 40},
        generate={"max_new_tokens": 4},
        train={"lr": 0.05, "steps": 2, "batch_size": 2},
        retention={"text": str(text)},
    )
    load = retention.load_language_model
    seen: list[str] = []

    def counted(*arguments: Any) -> Any:
        seen.append("load")
        return load(*arguments)

    monkeypatch.setattr(retention, "load_language_model", counted)
    _, metrics = tiny.trained(path, tmp_path / "runs")
    assert len(seen) == loads
    assert metrics["retention"]["kl"] > 0
    model = transformers.GPT2LMHeadModel.from_pretrained(gpt2).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2)
    ids = tokenizer(text.read_text(), return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = float(model(ids, labels=ids).loss)
    assert metrics["retention"]["bare_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_the_vocabulary_never_stands_in_memory_for_all_positions(
    gpt2: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny.opened(config(tmp_path, gpt2), tmp_path / "runs")
    section = RetentionSection(text=str(text))
    whole = measure_retention(session, section)
    rows: list[int] = []
    forward = LanguageModel.forward

    def counted(self: Any, states: torch.Tensor) -> torch.Tensor:
        rows.append(len(states))
        return forward(self, states)

    monkeypatch.setattr(LanguageModel, "forward", counted)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * 400 * 7)  # seven positions of 400 words
    small = measure_retention(session, section)
    assert max(rows) == 7
    assert sum(rows) == 2 * small["tokens"]
    assert small["kl"] == pytest.approx(whole["kl"], rel=1e-4)


def test_only_so_many_tokens_are_read(gpt2: Path, tmp_path: Path, text: Path) -> None:
    session = tiny.opened(config(tmp_path, gpt2), tmp_path / "runs")
    for most in (10, 2):
        section = RetentionSection(text=str(text), max_tokens=most)
        assert measure_retention(session, section)["tokens"] == most - 1


def test_a_run_ends_where_memory_does_not_hold_a_second_model(
    gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(retention, "load_language_model", full)
    _, metrics = tiny.trained(config(tmp_path, gpt2, retention=True), tmp_path / "runs")
    assert "retention" not in metrics
    (told,) = (text for text in metrics["warnings"] if "retention" in text)
    assert "--retention measures it" in told


def test_it_is_no_part_of_the_fingerprint(gpt2: Path, tmp_path: Path) -> None:
    path = config(tmp_path, gpt2)
    marks = [
        tiny.prepared(path, tmp_path / "runs", sets).fingerprint
        for sets in ((), ("retention=true",), ("retention={max_tokens: 7}",), ("retention=false",))
    ]
    assert len(set(marks)) == 1
    assert fingerprint({"retention": {"text": "a"}}, {}) == fingerprint({}, {})


def test_paths_are_those_of_the_config(gpt2: Path, tmp_path: Path, text: Path) -> None:
    path = config(tmp_path, gpt2, retention={"text": text.name})
    section = tiny.resolved(path).config.retention
    assert section is not None
    assert section.text == str(text)


def test_refused(gpt2: Path, folder_of: Any, tmp_path: Path, text: Path) -> None:
    for family, says in (
        ("bert", "bert models fill in masked words"),
        ("t5", "t5 models answer a text"),
    ):
        path = config(tmp_path, folder_of(family), retention=True)
        assert says in tiny.problems(path)
    assert "no language-model head" in _error(config(tmp_path, folder_of("llama"), retention=True))
    path = config(tmp_path, gpt2)
    assert "absent.txt cannot be read" in tiny.problems(path, "retention.text=absent.txt")
    short = tmp_path / "short.txt"
    short.write_text("two words")
    assert "has 2 words, too few" in tiny.problems(path, f"retention.text={short}")
    short.write_bytes(b"\xff\xfe" * 100)
    assert "is no UTF-8: byte 0 is 0xff" in tiny.problems(path, f"retention.text={short}")
    with pytest.raises(ConfigError, match="must be 2 or more"):
        tiny.resolved(path, "retention.max_tokens=1")
    with pytest.raises(ConfigError, match="max_token"):
        tiny.resolved(path, "retention.max_token=5")


def _error(path: Path) -> str:
    from ptv2_cli.errors import BackboneError

    with pytest.raises(BackboneError) as caught:
        tiny.resolved(path)
    return str(caught.value)
