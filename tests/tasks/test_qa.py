from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ptv2_cli.errors import InputError
from ptv2_cli.inputs.encoder import Encoder, Pieces
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.inputs.template import default_template
from ptv2_cli.scoring.squad import best_over, best_threshold
from ptv2_cli.tasks.catalog import load_task
from ptv2_cli.tasks.spans import span_scores, visible_spans

SQUAD, SQUAD2 = load_task("qa/squad"), load_task("qa/squad_v2")


def ask(context: str, answer: str | None, question: str = "who ?") -> dict[str, Any]:
    row: dict[str, Any] = {"question": question, "context": context}
    if answer is not None:
        at = context.index(answer) if answer else 0
        row["answers"] = [{"text": answer, "answer_start": at}] if answer else []
    return row


LONG = " ".join(["the cat sat on the mat ."] * 6 + ["Ann lives in New York ."])


def logits(feature: Feature, start: int, end: int, height: float = 9.0) -> dict[str, Any]:
    found = {side: np.zeros(len(feature.input_ids), dtype=np.float32) for side in ("start", "end")}
    found["start"][start] = found["end"][end] = height
    return found


@pytest.mark.parametrize("name", ["wordpiece", "roberta"])
def test_windows_are_the_tokenizers_own(name: str, request: Any) -> None:
    tokenizer = request.getfixturevalue(name)
    task = load_task("qa/squad", {"stride": 6})
    features = task.encode([ask(LONG, "Ann", " who ?")], Encoder(tokenizer, 24, "only_second"))
    expected = tokenizer(
        "who ?",
        LONG,
        truncation="only_second",
        max_length=24,
        stride=6,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert [feature.input_ids for feature in features] == expected["input_ids"]
    for index, feature in enumerate(features):
        owners = expected.sequence_ids(index)
        shown = [
            tuple(span) if owner == 1 else None
            for span, owner in zip(expected["offset_mapping"][index], owners, strict=True)
        ]
        assert feature.offsets == shown
    assert features.truncated_rows == 0


@pytest.mark.parametrize("name", ["wordpiece", "roberta", "gpt2"])
@pytest.mark.parametrize("templated", [False, True])
def test_labels_point_at_the_answer(name: str, templated: bool, request: Any) -> None:
    template = default_template(SQUAD.columns, 5, with_mask=False) if templated else None
    encoder = Encoder(request.getfixturevalue(name), 40, template=template)
    row = ask(LONG, "New York")
    features = SQUAD.encode([row], encoder)
    assert len(features) > 1
    found = 0
    for feature in features:
        assert isinstance(feature.label, tuple)
        first, last = feature.label
        if feature.label == (feature.cls_at, feature.cls_at):
            spans = [span for span in feature.offsets or [] if span]
            assert not any(span[1] >= row["answers"][0]["answer_start"] + 8 for span in spans)
            continue
        begin, end = (feature.offsets or [])[first], (feature.offsets or [])[last]
        assert begin is not None
        assert end is not None
        assert LONG[begin[0] : end[1]].strip() == "New York"
        found += 1
    assert found >= 1


def test_the_window_without_the_answer_points_at_cls(wordpiece: Any, gpt2: Any) -> None:
    row = ask(LONG, "New York")
    assert SQUAD.encode([row], Encoder(wordpiece, 24))[0].label == (0, 0)
    template = default_template(SQUAD.columns, 4, with_mask=False)
    feature = SQUAD.encode([row], Encoder(gpt2, 40, template=template))[0]
    # Two slots stand first; the question's first token is what follows.
    assert feature.label == (2, 2)
    assert feature.cls_at == 2


def test_half_an_answer_is_none(wordpiece: Any) -> None:
    task = load_task("qa/squad", {"stride": 0})
    row = ask("a b x y", "b x")
    # Room of 2 tokens per window after [CLS] who ? [SEP] ... [SEP]: (a b) (x y).
    features = task.encode([row], Encoder(wordpiece, 7))
    assert [feature.label for feature in features] == [(0, 0), (0, 0)]


def test_unanswerable_and_unlabelled(wordpiece: Any) -> None:
    encoder = Encoder(wordpiece, 32)
    assert SQUAD2.encode([ask("Ann sat", "")], encoder)[0].label == (0, 0)
    assert SQUAD2.encode([ask("Ann sat", None)], encoder)[0].label is None
    with pytest.raises(InputError, match="no gold answer"):
        SQUAD2.score([ask("Ann sat", None)], [{"answer": ""}])


def test_a_long_question_leaves_half_to_the_context(wordpiece: Any) -> None:
    row = ask(LONG, "Ann", "who sat on the mat " * 10)
    features = SQUAD.encode([row], Encoder(wordpiece, 23))
    assert all(len(feature.input_ids) <= 23 for feature in features)
    assert features.truncated_rows == 1
    assert sum(span is not None for span in features[0].offsets or []) == 10
    short = SQUAD.encode([ask("Ann sat", "Ann", "who " * 18)], Encoder(wordpiece, 23))
    assert len(short) == 1
    assert not short[0].truncated


def test_answer_is_the_contexts_own_text(wordpiece: Any) -> None:
    row = ask("Ann  LIVES in New-York.", "Ann")
    features = SQUAD.encode([row], Encoder(wordpiece, 32))
    tokens = wordpiece.convert_ids_to_tokens(features[0].input_ids)
    outputs = [logits(features[0], tokens.index("lives"), tokens.index("york"))]
    (line,) = SQUAD.decode([row], features, outputs, {})
    assert line["answer"] == "LIVES in New-York"
    assert line["start"] == 5
    assert line["nbest"][0]["text"] == "LIVES in New-York"
    assert "null_score" not in line


def test_spans_never_end_before_they_start_nor_grow_too_long(wordpiece: Any) -> None:
    task = load_task("qa/squad", {"max_answer_len": 2, "n_best": 50})
    row = ask("a b x y a b", "a")
    (feature,) = features = task.encode([row], Encoder(wordpiece, 32))
    at = [index for index, span in enumerate(feature.offsets or []) if span]
    (line,) = task.decode([row], features, [logits(feature, at[4], at[1])], {})
    texts = [entry["text"] for entry in line["nbest"]]
    assert len(texts) == 11
    assert max(map(len, texts)) == len("a b")
    # Start at the last "a" or end at the first "b" score 9, never both.
    assert line["nbest"][0]["start"] in (0, 2, 8)
    (backwards,) = task.decode([row], features, [logits(feature, at[3], at[2])], {})
    assert backwards["answer"] in ("x", "b x", "y", "y a")


def test_probabilities_are_a_softmax_over_the_n_best(wordpiece: Any) -> None:
    task = load_task("qa/squad", {"max_answer_len": 1, "n_best": 2})
    row = ask("a b x", "a")
    (feature,) = features = task.encode([row], Encoder(wordpiece, 32))
    output = logits(feature, 0, 0, 0.0)
    at = [index for index, span in enumerate(feature.offsets or []) if span]
    output["start"][at[0]], output["start"][at[1]], output["start"][at[2]] = 1.0, 3.0, 2.0
    (line,) = task.decode([row], features, [output], {})
    shares = np.exp([3.0, 2.0]) / np.exp([3.0, 2.0]).sum()
    assert [entry["text"] for entry in line["nbest"]] == ["b", "x"]
    assert [entry["probability"] for entry in line["nbest"]] == pytest.approx(list(shares))
    assert line["probability"] == line["nbest"][0]["probability"]


def test_a_span_in_two_windows_counts_once_with_its_better_score(wordpiece: Any) -> None:
    task = load_task("qa/squad", {"stride": 2})
    row = ask("a b x y", "b")
    features = task.encode([row], Encoder(wordpiece, 8))
    assert len(features) > 1
    spans = [{span: at for at, span in enumerate(f.offsets or []) if span} for f in features]
    shared = (set(spans[0]) & set(spans[1])).pop()
    outputs = [logits(feature, 0, 0, 0.0) for feature in features]
    outputs[0]["start"][spans[0][shared]] = 2.0
    outputs[1]["start"][spans[1][shared]] = 5.0
    (line,) = task.decode([row], features, outputs, {})
    assert line["start"] == shared[0]
    places = [(entry["start"], entry["text"]) for entry in line["nbest"]]
    assert len(places) == len(set(places))


def decide(wordpiece: Any, null: list[float], best: float, **state: float) -> dict[str, Any]:
    task = load_task("qa/squad_v2", {"stride": 0})
    row = ask("a b x y a b", "")
    features = task.encode([row], Encoder(wordpiece, 10))
    assert len(features) == 2
    outputs = [
        logits(feature, feature.cls_at, feature.cls_at, value / 2)
        for feature, value in zip(features, null, strict=True)
    ]
    at = next(index for index, span in enumerate(features[0].offsets or []) if span)
    outputs[0]["start"][at] = best
    line: dict[str, Any] = task.decode([row], features, outputs, state)[0]
    return line


def test_no_answer_scores_the_lowest_of_its_windows(wordpiece: Any) -> None:
    line = decide(wordpiece, [7.0, 3.0], 5.0)
    assert line["null_score"] == pytest.approx(-2.0)
    assert line["answer"] == "a"
    line = decide(wordpiece, [7.0, 6.0], 5.0)
    assert line["null_score"] == pytest.approx(1.0)
    assert (line["answer"], line["start"]) == ("", None)
    assert line["nbest"][0] == {"text": "", "start": None, "probability": line["probability"]}


def test_the_threshold_of_the_state_decides(wordpiece: Any) -> None:
    assert decide(wordpiece, [6.0, 6.0], 5.0, null_threshold=1.5)["answer"] == "a"
    assert decide(wordpiece, [6.0, 6.0], 5.0, null_threshold=1.0)["answer"] == "a"
    assert decide(wordpiece, [6.0, 6.0], 5.0, null_threshold=0.5)["answer"] == ""
    assert decide(wordpiece, [3.0, 3.0], 5.0, null_threshold=-3.0)["answer"] == ""


def test_a_context_without_tokens_has_no_answer(wordpiece: Any) -> None:
    rows = [ask("\u200b", "")]
    for task in (SQUAD, SQUAD2):
        features = task.encode(rows, Encoder(wordpiece, 16))
        (line,) = task.decode(rows, features, [logits(features[0], 0, 0)], {})
        assert line["answer"] == ""


def tuning_lines() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = [ask("a b x", "b"), ask("a b x", "x"), ask("a b x", ""), ask("a b x", "")]
    scores = [1.0, 2.5, 4.0, 2.0]
    texts = ["b", "x", "b", "b"]
    lines = [
        {
            "answer": "",
            "null_score": score,
            "nbest": [{"text": "", "start": None}, {"text": text, "start": 0}],
        }
        for score, text in zip(scores, texts, strict=True)
    ]
    return rows, lines


def test_tune_finds_the_threshold_of_best_f1() -> None:
    rows, lines = tuning_lines()
    tuned = load_task("qa/squad_v2", {"null_threshold": "tuned"})
    # Answering up to 1.0 is right on 1 + 2 rows; up to 2.5 on 2 + 1, no better; the lowest wins.
    assert tuned.tune(rows, lines) == {"null_threshold": 1.0}
    lines[3]["null_score"] = 3.0
    assert tuned.tune(rows, lines) == {"null_threshold": 2.5}
    assert load_task("qa/squad_v2", {"null_threshold": 0.5}).tune(rows, lines) == {}
    assert SQUAD.tune(rows, lines) == {}


def test_threshold_option_is_used_without_a_state(wordpiece: Any) -> None:
    task = load_task("qa/squad_v2", {"null_threshold": 20})
    row = ask("a b", "")
    features = task.encode([row], Encoder(wordpiece, 10))
    (line,) = task.decode([row], features, [logits(features[0], 0, 0)], {})
    assert line["null_score"] == pytest.approx(18.0)
    assert line["answer"] != ""


def test_scores_and_detail() -> None:
    rows = [ask("the cat sat", "cat sat"), ask("the cat sat", "")]
    scores = SQUAD2.score(rows, [{"answer": "The cat!"}, {"answer": "sat"}])
    # Row 1: {cat} of {cat} and {cat, sat}: f1 2/3. Row 2 should be empty.
    assert scores.metrics == {"exact_match": 0.0, "f1": pytest.approx(1 / 3)}
    assert scores.detail["has_answer"] == {
        "exact_match": 0.0,
        "f1": pytest.approx(2 / 3),
        "rows": 1,
    }
    assert scores.detail["no_answer"]["f1"] == 0.0
    # Values 2/3 and 0: sd = (2/3)/sqrt(2), over sqrt(2).
    assert scores.standard_error == pytest.approx(1 / 3)
    totals = SQUAD2.row_statistics(rows, [{"answer": "The cat!"}, {"answer": "sat"}]).sum(axis=0)
    assert float(SQUAD2.from_statistics(totals)["f1"]) == pytest.approx(1 / 3)


def test_majority_answers_nothing_where_that_can_be_right() -> None:
    rows = [ask("Ann sat", ""), ask("Ann sat", "Ann")]
    assert SQUAD.majority(rows, rows) is None
    lines = SQUAD2.majority(rows, rows) or []
    assert SQUAD2.score(rows, lines).metrics == {"exact_match": 0.5, "f1": 0.5}
    assert "no_answer" not in SQUAD.score(rows[1:], lines[1:]).detail


def test_tokens_of_no_width_begin_and_end_no_answer(
    wordpiece: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(wordpiece, 16)
    pieces = encoder.tokenize_with_offsets(["a b"])
    ids = Ragged.of([[*pieces.ids[0], pieces.ids[0][0]]])
    widthless = Pieces(ids, np.array([*pieces.offsets, (3, 3)], np.int32))
    monkeypatch.setattr(encoder, "tokenize_with_offsets", lambda *args: widthless)
    (feature,) = features = SQUAD.encode([ask("a b", "b")], encoder)
    assert (feature.offsets or [])[4:] == [(0, 1), (2, 3), None, None]
    assert feature.label == (5, 5)
    (line,) = SQUAD.decode([ask("a b", "b")], features, [logits(feature, 6, 6)], {})
    assert all(entry["text"] for entry in line["nbest"])


def test_numbers_of_a_config_file_are_taken() -> None:
    from ptv2_cli.config.yaml import parse_value

    options = {
        "stride": parse_value("64", "--set"),
        "null_threshold": parse_value("-5e-1", "--set"),
    }
    task = load_task("qa/squad_v2", options)
    assert task.options.stride == 64  # type: ignore[attr-defined]
    assert task.options.null_threshold == -0.5  # type: ignore[attr-defined]


def test_scores_in_the_manner_of_the_official_script() -> None:
    """What the official script prints for such a file, worked by hand: figures of 100."""
    table = [
        # answer, accepted answers, chance of no answer; EM, F1
        ("The cat", ["cat", "a black cat"], 0.1),  # 100, 100
        ("black cat sat", ["cat", "a black cat"], 0.2),  # 0, 2*2/(3+2) = 80
        ("in 1,943.", ["1943"], 0.6),  # 0, 2*1/(2+1) = 66.67
        ("", ["mat"], 0.9),  # 0, 0
        ("", [], 0.8),  # 100, 100
        ("dog", [], 0.7),  # 0, 0
    ]
    rows = [
        {"context": "", "question": "", "answers": [{"text": t} for t in golds]}
        for _, golds, _ in table
    ]
    scores = SQUAD2.score(rows, [{"answer": answer} for answer, _, _ in table])
    assert scores.metrics["exact_match"] * 100 == pytest.approx(200 / 6)
    assert scores.metrics["f1"] * 100 == pytest.approx((100 + 80 + 200 / 3 + 0 + 100 + 0) / 6)
    has, none = scores.detail["has_answer"], scores.detail["no_answer"]
    assert (has["rows"], has["exact_match"] * 100) == (4, pytest.approx(25))
    assert has["f1"] * 100 == pytest.approx((100 + 80 + 200 / 3) / 4)
    assert (none["rows"], none["exact_match"], none["f1"]) == (2, 0.5, 0.5)
    # Silent above 0.6: the dog is not said, all else stays.
    threshold, best = best_threshold(
        [chance for _, _, chance in table],
        [best_over(answer, golds)[1] for answer, golds, _ in table],
        [float(not golds) for _, golds, _ in table],
    )
    assert threshold == 0.6
    assert best * 100 == pytest.approx((100 + 80 + 200 / 3 + 0 + 100 + 100) / 6)


NON_ASCII = [
    ("他在北京大学读书。", "北京大学"),
    ("東京は日本の首都です。", "日本"),
    ("서울은 한국의 수도이다.", "한국의"),
    ("Она живёт в Москве.", "Москве"),
    ("She sent 🎉🎉 and 😀 to all.", "🎉🎉"),
    ("ภาษาไทยง่าย", "ไทย"),
    ("नमस्ते दुनिया", "दुनिया"),
    ("Ο Σωκράτης ζει.", "Σωκράτης"),
    ("Das Café an der Straße", "Café"),
]


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
def test_gold_logits_give_the_answer_where_one_character_is_several_tokens(
    name: str, request: Any
) -> None:
    rows = [ask(context, answer) for context, answer in NON_ASCII]
    features = SQUAD.encode(rows, Encoder(request.getfixturevalue(name), 128))
    assert len(features) == len(rows)
    outputs = [logits(feature, *feature.label) for feature in features]  # type: ignore[misc]
    lines = SQUAD.decode(rows, features, outputs, {})
    assert [line["answer"] for line in lines] == [answer for _, answer in NON_ASCII]
    assert SQUAD.score(rows, lines).metrics["exact_match"] == 1.0


def test_the_n_best_are_those_of_all_spans_where_tokens_share_characters() -> None:
    draws = np.random.default_rng(11)
    for _ in range(300):
        count, longest, n_best = (int(draws.integers(1, top)) for top in (14, 6, 9))
        starts = np.cumsum(draws.integers(0, 2, count))  # one character may be several tokens
        offsets = [None, *((int(at), int(at) + 1) for at in starts)]
        feature = Feature(0, [0] * (count + 1), offsets=offsets)
        output = {
            side: draws.normal(size=count + 1).astype(np.float32) for side in ("start", "end")
        }
        expected: dict[tuple[int, int], float] = {}
        for first in range(1, count + 1):
            for last in range(first, min(first + longest, count + 1)):
                span = offsets[first][0], offsets[last][1]  # type: ignore[index]
                score = float(output["start"][first]) + float(output["end"][last])
                expected[span] = max(score, expected.get(span, -np.inf))
        best = sorted(expected, key=lambda span: -expected[span])[:n_best]
        found = span_scores(feature, output, n_best, longest)
        assert list(found) == best
        assert [found[span] for span in best] == pytest.approx([expected[span] for span in best])


def test_an_answer_begins_and_ends_with_no_space(gpt2: Any) -> None:
    row = ask("Ann lives in New York .", "New York")
    (feature,) = features = SQUAD.encode([row], Encoder(gpt2, 64))
    (line,) = SQUAD.decode([row], features, [logits(feature, *feature.label)], {})  # type: ignore[misc]
    assert (line["answer"], line["start"]) == ("New York", 13)
    assert all(entry["text"] == entry["text"].strip() for entry in line["nbest"])


def visible(context: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int] | None]:
    spans = visible_spans(context, np.array(offsets, np.int32)).tolist()
    return [None if start < 0 else (start, end) for start, end in spans]


def test_an_answer_keeps_the_accents_that_the_tokenizer_drops(wordpiece: Any) -> None:
    context = "the Bi\u0301\u0323g cat"  # the tokenizer reads "the big cat"
    row = ask(context, "cat")
    (feature,) = features = SQUAD.encode([row], Encoder(wordpiece, 16))
    tokens = wordpiece.convert_ids_to_tokens(feature.input_ids)
    at = tokens.index("big")
    (line,) = SQUAD.decode([row], features, [logits(feature, at, at)], {})
    assert line["answer"] == "Bi\u0301\u0323g"
    last = visible("Cafe\u0301 bar", [(0, 4), (6, 9)])
    assert last == [(0, 5), (6, 9)]
    # Two tokens of one letter both keep its mark; a mark that is a token stays that token's.
    assert visible("e\u0301", [(0, 1), (0, 1)]) == [(0, 2), (0, 2)]
    assert visible("e\u0301", [(0, 1), (1, 2)]) == [(0, 1), (1, 2)]
    assert visible("a \n b", [(0, 1), (1, 3), (3, 5)]) == [(0, 1), None, (4, 5)]


@pytest.mark.parametrize("templated", [False, True])
def test_a_causal_model_says_no_answer_at_a_token_that_sees_the_text(
    gpt2: Any, templated: bool
) -> None:
    template = default_template(SQUAD2.columns, 5, with_mask=False) if templated else None
    encoder = Encoder(gpt2, 40, template=template, causal=True)
    rows = [ask(LONG, "New York"), ask("Ann sat", ""), ask("Ann sat on", "on")]
    features = SQUAD2.encode(rows, encoder)
    for feature in features:
        text = [at for at, span in enumerate(feature.offsets or []) if span]
        assert feature.cls_at == len(feature.input_ids) - 1 > max(text)
        assert feature.input_ids[feature.cls_at] == gpt2.eos_token_id
        assert len(feature.input_ids) - (5 if templated else 0) <= 40
    # The last word of a text is an answer, and is not mistaken for none.
    assert features[-2].label == (features[-2].cls_at,) * 2
    assert features[-1].label[1] == features[-1].cls_at - 1  # type: ignore[index]
    # Other tasks' inputs stay as they were.
    assert encoder.layout(SQUAD2.columns).overhead == 0
