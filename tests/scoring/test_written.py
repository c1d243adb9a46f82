"""Scores of written texts, against the packages' own functions on whole corpora."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from ptv2_cli.scoring.overlap import tokenizer_of
from ptv2_cli.scoring.resampling import DRAWS, resampled_errors, sampled_rows
from ptv2_cli.scoring.rouge import rouge, words_of
from ptv2_cli.scoring.written import EXACT, F1, from_sums, text_sums

ROWS = [
    (
        "The Copper Kettle is a cheap Italian restaurant near the old mill.",
        [
            "The Copper Kettle serves Italian food at low prices, near the old mill.",
            "Near the old mill you will find The Copper Kettle, a cheap Italian restaurant.",
        ],
    ),
    (
        "Café Müller serves dishes “à la carte” — children are welcome!",
        ["Café Müller is family-friendly; it serves dishes à la carte.", "Kinder sind willkommen."],
    ),
    ("", ["It has a low rating.", "Guests rate it poorly."]),
    (
        "In 2021, prices rose by 3.5 % (to $1,200.00), said the owner's wife.",
        ["Prices rose by 3.5% in 2021, to $1,200, the owner's wife said.", "Prices rose in 2021."],
    ),
    ("word", ["another", "word"]),
    (
        "It is cheap cheap cheap, and it is by the river, and it is cheap.",
        ["It is by the river.", "It is cheap, and by the river too, which guests like a lot."],
    ),
    ("\tNew\nlines  and   spaces ", ["New lines and spaces", "lines"]),
    ("Ресторан стоит у реки.", ["Ресторан находится у реки.", "Он у реки."]),
    ("ja ja ja ja ja", ["no no no no no", "nothing of it"]),
]
TEXTS = [text for text, _ in ROWS]
REFERENCES = [right for _, right in ROWS]
STREAMS = [list(stream) for stream in zip(*REFERENCES, strict=True)]


def sums(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    zeros = [0] * len(texts)
    return text_sums(texts, references, zeros, zeros)


def scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    values = from_sums(sums(texts, references).sum(axis=0))
    return {name: float(value) for name, value in values.items()}


def by_sacrebleu(
    texts: Sequence[str], streams: Sequence[Sequence[str | None]]
) -> tuple[float, float]:
    bleu = sacrebleu.corpus_bleu(list(texts), streams).score
    return bleu / 100, sacrebleu.corpus_chrf(list(texts), streams).score / 100


@pytest.mark.parametrize("rows", [range(9), [0], [1], [3], [4], [2], [8], [0, 2], [4, 6], [5, 7]])
@pytest.mark.parametrize("count", [1, 2])
def test_bleu_and_chrf_are_sacrebleu_s(rows: Sequence[int], count: int) -> None:
    texts, streams = [TEXTS[row] for row in rows], [[s[row] for row in rows] for s in STREAMS]
    found = scores(texts, [REFERENCES[row][:count] for row in rows])
    bleu, chrf = by_sacrebleu(texts, streams[:count])
    assert found["bleu"] == pytest.approx(bleu, rel=1e-12, abs=1e-15)
    assert found["chrf"] == pytest.approx(chrf, rel=1e-12, abs=1e-15)


def test_most_of_these_rows_say_something() -> None:
    found = scores(TEXTS, REFERENCES)
    assert 0.2 < found["bleu"] < found["chrf"] < 0.8


def test_rows_with_fewer_references_than_others() -> None:
    references = [right[: 1 + row % 2] for row, right in enumerate(REFERENCES)]
    streams = [STREAMS[0], [text if row % 2 else None for row, text in enumerate(STREAMS[1])]]
    bleu, chrf = by_sacrebleu(TEXTS, streams)
    found = scores(TEXTS, references)
    assert found["bleu"] == pytest.approx(bleu, rel=1e-12)
    assert found["chrf"] == pytest.approx(chrf, rel=1e-12)
    # The same reference twice is no other corpus.
    doubled = scores(TEXTS, [[*right, right[0]] for right in references])
    assert doubled == pytest.approx(found)


def test_sums_of_parts_are_those_of_the_whole() -> None:
    # Of rows drawn with replacement too: what the bootstrap adds up is a corpus.
    rows = [0, 0, 3, 5, 5, 5, 7]
    totals = sums(TEXTS, REFERENCES)[rows].sum(axis=0)
    bleu, chrf = by_sacrebleu(
        [TEXTS[row] for row in rows], [[stream[row] for row in rows] for stream in STREAMS]
    )
    found = from_sums(totals)
    assert float(found["bleu"]) == pytest.approx(bleu, rel=1e-12)
    assert float(found["chrf"]) == pytest.approx(chrf, rel=1e-12)


def test_many_sums_at_once() -> None:
    totals = sums(TEXTS, REFERENCES)
    together = from_sums(totals.reshape(3, 3, -1))
    for name, values in together.items():
        assert values.shape == (3, 3)
        single = [float(from_sums(row)[name]) for row in totals]
        assert values.ravel().tolist() == pytest.approx(single), name


ENGLISH = [row for row in range(len(ROWS)) if row not in (1, 7)]


@pytest.mark.parametrize("row", [*ENGLISH, 1])
def test_rouge_is_rouge_score_s(row: int) -> None:
    # Of row 1 the letters beyond ASCII are left out, which rouge-score does not know.
    plain = [text.encode("ascii", "ignore").decode() for text in (TEXTS[row], *REFERENCES[row])]
    kinds = ["rouge1", "rouge2", "rougeL"]
    found = RougeScorer(kinds, use_stemmer=True).score_multi(plain[1:], plain[0])
    assert rouge(plain[0], plain[1:]) == tuple(found[kind].fmeasure for kind in kinds)


def test_longest_common_subsequences_of_many_texts() -> None:
    draw = random.Random(3)
    scorer = RougeScorer(["rougeL"])
    for length in (1, 5, 30, 63, 64, 65, 200):
        text, right = (" ".join(draw.choices("abcdefgh", k=length)) for _ in range(2))
        longer = f"{right} {text}"
        for other in (right, longer, "x"):
            expected = scorer.score(other, text)["rougeL"].fmeasure
            assert rouge(text, [other])[2] == expected


def test_rouge_of_a_corpus_is_the_mean_over_rows() -> None:
    rows = [rouge(text, right) for text, right in ROWS]
    found = scores(TEXTS, REFERENCES)
    mean = np.mean(rows, axis=0).tolist()
    assert [found[name] for name in ("rouge_1", "rouge_2", "rouge_l")] == pytest.approx(mean)
    assert found["rouge_2"] < found["rouge_l"] < found["rouge_1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "The Mills' prices, rising_fast: 3.5!",
            ["the", "mill", "price", "rise", "fast", "3", "5"],
        ),
        ("Ресторан «У реки»", ["ресторан", "у", "реки"]),
        ("Café Müller's", ["café", "müller", "s"]),
        ("餐厅在river边。2021年", ["餐", "厅", "在", "river", "边", "2021", "年"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("“” — ☃", []),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert words_of(text) == words


CHINESE = [
    ("这家餐厅在河边。", ["这家餐厅位于河边。"]),
    ("价格便宜。", ["它的价格很便宜。", "很便宜"]),
]
JAPANESE = [("このレストランは川のそばにあります。", ["レストランは川のそばです。"])]


@pytest.mark.parametrize(("rows", "tokenizer"), [(CHINESE, "zh"), (JAPANESE, "char")])
def test_texts_without_spaces(rows: list[tuple[str, list[str]]], tokenizer: str) -> None:
    texts, references = [text for text, _ in rows], [right for _, right in rows]
    assert tokenizer_of(references) == tokenizer
    found = scores(texts, references)
    streams = [[right[0] for right in references], [right[1] if right[1:] else None for right in
                                                    references]]  # fmt: skip
    bleu = sacrebleu.corpus_bleu(texts, streams, tokenize=tokenizer).score / 100
    assert found["bleu"] == pytest.approx(bleu, rel=1e-12)
    assert min(found[name] for name in ("bleu", "chrf", "rouge_l", "rouge_2", "f1")) > 0.2


def test_a_chinese_word_in_english_text_changes_nothing() -> None:
    assert tokenizer_of([["The sign reads 餐厅."], ["A plain row."]]) == "13a"


@pytest.mark.parametrize(
    ("text", "references", "exact", "f1"),
    [
        ("the Red dog", ["red dog!"], 1.0, 1.0),
        ("big red dog", ["dog", "the big red house"], 0.0, 2 / 3),
        ("", ["the", "dog"], 0.0, 0.0),
        # Answers that SQuAD's script would make nothing of.
        ("", ["A"], 0.0, 0.0),
        ("the", ["A"], 0.0, 0.0),
        ("a", ["A"], 1.0, 1.0),
        ("B", ["A"], 0.0, 0.0),
        ("?", ["!"], 0.0, 0.0),
        (" ? ", ["?"], 1.0, 1.0),
    ],
)
def test_exact_match_and_f1(text: str, references: list[str], exact: float, f1: float) -> None:
    row = sums([text], [references])[0]
    assert (row[EXACT], row[F1]) == (exact, pytest.approx(f1))


def test_empty_texts_score_nothing() -> None:
    found = scores(["", ""], [["A text."], ["Another", "one"]])
    assert {name: value for name, value in found.items() if value} == {"perplexity": 1.0}


def test_scores_are_shares() -> None:
    same = scores([right[0] for right in REFERENCES], REFERENCES)
    shares = {name: value for name, value in same.items() if name not in {"tokens", "perplexity"}}
    # One row is a single word, which has no pair of words.
    assert shares.pop("rouge_2") == pytest.approx(8 / 9)
    assert all(value == pytest.approx(1) for value in shares.values()), shares


def test_perplexity_is_of_all_tokens() -> None:
    rows = text_sums(["a", "b"], [["a"], ["b"]], [6.0, 2.0], [3, 1])
    found = from_sums(rows.sum(axis=0))
    assert float(found["perplexity"]) == pytest.approx(math.exp(8 / 4))
    assert float(found["tokens"]) == 4


def test_errors_are_those_of_the_corpus_scores() -> None:
    texts, references = TEXTS * 4, REFERENCES * 4
    errors = resampled_errors(sums(texts, references), from_sums)
    weights = sampled_rows(len(texts))
    assert len(weights) == DRAWS
    drawn = []
    for counts in weights[:40]:
        rows = np.repeat(np.arange(len(texts)), counts)
        streams = [[references[row][side] for row in rows] for side in range(2)]
        drawn.append(by_sacrebleu([texts[row] for row in rows], streams))
    spread = np.std(drawn, axis=0, ddof=1)
    assert errors["bleu"] == pytest.approx(spread[0], rel=0.3)
    assert errors["chrf"] == pytest.approx(spread[1], rel=0.3)
    assert 0.02 < errors["rouge_l"] < 0.1
