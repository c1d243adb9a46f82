"""Write the question set: configs/data/qa/{train,dev}.json in the format of SQuAD 1.1.

Every context has several candidates of the same kind (two dates, three people), so that the
question decides.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from string import Formatter

import common as c
from qa_stories import STORIES, Story

CONTEXTS = {"train": 300, "dev": 90}
QUESTIONS_PER_CONTEXT = 4
Slots = dict[str, object]
Span = tuple[int, int]


@dataclass
class Context:
    """A text, and where each slot was last written in each of its sentences."""

    text: str = ""
    spans: dict[tuple[int, str], Span] = field(default_factory=dict)

    def add(self, position: int, template: str, slots: Slots) -> None:
        """Append one filled sentence."""
        if self.text:
            self.text += " "
        start = len(self.text)
        for literal, name, _, _ in Formatter().parse(template):
            self.text += literal
            if name is None:
                continue
            begin = len(self.text)
            self.text += f"{{{name}}}".format(**slots)
            self.spans[position, name] = (begin, len(self.text))
        self.text = self.text[:start] + c.sentence_case(self.text[start:])


@dataclass(frozen=True)
class Question:
    """A question and its answer in the context."""

    text: str
    answer: str
    start: int


def draw_slots(rng: random.Random, split: str) -> Slots:
    """Everything that a story may name."""
    numbers = sorted(rng.sample(c.numbers(split, 18, 95), 4))
    large = sorted(rng.sample(c.numbers(split, 200, 990), 3), reverse=True)
    first_year = rng.randint(1840, 1950)
    years = rng.sample(c.numbers(split, first_year, first_year + 45), 4)
    dates = c.in_calendar_order(c.distinct(lambda: c.date(rng, split), 3))
    groups: dict[str, list[object]] = {
        "p": list(c.people(rng, split, 4)),
        "l": list(rng.sample(c.PLACES[split], 4)),
        "o": list(c.orgs(rng, split, 3)),
        "f": list(c.firms(rng, split, 2)),
        "y": list[object](sorted(years)),
        "n": list(numbers),
        "k": list(large),
        "d": list(dates),
        "b": list(rng.sample(c.BUILDINGS, 2)),
        "h": list(rng.sample(c.HALLS, 2)),
        "e": list(rng.sample(c.EVENTS, 2)),
        "t": list(rng.sample(c.THINGS, 3)),
        "g": list(rng.sample(c.GOODS, 2)),
        "j": list(rng.sample(c.JOBS, 3)),
        "s": list(rng.sample(c.SHIPS[split], 2)),
        "w": list(rng.sample(c.WORKS[split], 2)),
    }
    named = {f"{key}{at}": v for key, values in groups.items() for at, v in enumerate(values, 1)}
    return {**c.verb_slots(rng, split), **named, "role": rng.choice(c.ROLES)}


def make_context(rng: random.Random, story: Story, slots: Slots) -> tuple[Context, list[int]]:
    """The first sentence and two to five of the others, in order."""
    others = range(1, len(story))
    count = rng.randint(2, min(5, len(others)))
    chosen = [0, *sorted(rng.sample(others, count))]
    context = Context()
    for position in chosen:
        context.add(position, rng.choice(story[position].variants), slots)
    return context, chosen


def make_questions(
    rng: random.Random, story: Story, slots: Slots, context: Context, chosen: list[int]
) -> list[Question]:
    """Some of the questions that the chosen sentences answer."""
    questions = []
    for position in chosen:
        for wordings, slot in story[position].questions:
            begin, end = context.spans[position, slot]
            text = c.sentence_case(rng.choice(wordings).format(**slots))
            questions.append(Question(text, context.text[begin:end], begin))
    rng.shuffle(questions)
    return questions[:QUESTIONS_PER_CONTEXT]


def as_paragraph(split: str, number: int, context: Context, questions: list[Question]) -> object:
    """One SQuAD paragraph."""
    return {
        "context": context.text,
        "qas": [
            {
                "id": f"{split}-{number:04d}-{at}",
                "question": question.text,
                "answers": [{"text": question.answer, "answer_start": question.start}],
            }
            for at, question in enumerate(questions)
        ],
    }


def make_file(split: str, count: int) -> object:
    """One whole file: an article per story, a paragraph per context."""
    rng = random.Random(f"qa {split}")
    paragraphs: dict[str, list[object]] = {title: [] for title in STORIES}
    for number, title in enumerate(c.cycle_shuffled(rng, list(STORIES), count)):
        slots = draw_slots(rng, split)
        context, chosen = make_context(rng, STORIES[title], slots)
        questions = make_questions(rng, STORIES[title], slots, context, chosen)
        paragraphs[title].append(as_paragraph(split, number, context, questions))
    articles = [{"title": title, "paragraphs": made} for title, made in paragraphs.items()]
    return {"version": "1.1", "data": articles}


def main() -> None:
    """Write both files."""
    folder = c.out_dir(__doc__, "qa")
    for split, count in CONTEXTS.items():
        c.write_text(folder / f"{split}.json", json.dumps(make_file(split, count), indent=1) + "\n")


if __name__ == "__main__":
    main()
