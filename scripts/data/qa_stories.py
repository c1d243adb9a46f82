"""Stories of the question set.

A story is a list of parts. A part has variants of one sentence and questions that any of the
variants answers; each question has one or more wordings and the slot that is its answer.

Slots: p people, l places, o organisations, f firms, y years and d dates (earliest first), n numbers
(smallest first), k numbers (largest first), b buildings, h halls, e events, t things, g goods, j
jobs, s ships, w works. Content verbs are slots too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One sentence in several wordings, and the questions it answers."""

    variants: list[str]
    questions: list[tuple[list[str], str]]


Story = list[Part]

STORIES: dict[str, Story] = {
    "Biographies": [
        Part(
            [
                "{p1} was a {j1} from {l1} whose parents had {move.pp} there from {l2} in {y1}.",
                "A native of {l1}, the {j1} {p1} was the child of parents who had {move.pp} there "
                "from {l2} in {y1}.",
            ],
            [
                (["Where was {p1} from?", "Which town was the home town of {p1}?"], "l1"),
                (["From where had the parents of {p1} {move.pp}?"], "l2"),
                (["When had the parents of {p1} {move.pp} to {l1}?"], "y1"),
                (["What was the profession of {p1}?"], "j1"),
            ],
        ),
        Part(
            [
                "At the age of {n1}, together with the {j2} {p2}, {p1.last} {found.past} {o1}.",
                "{p1.last} was {n1} years old when, with the help of the {j2} {p2}, {o1} was "
                "{found.pp}.",
            ],
            [
                (
                    [
                        "Who {found.past} {o1} together with {p1}?",
                        "With whose help was {o1} {found.pp}?",
                    ],
                    "p2",
                ),
                (["How old was {p1} when {o1} was {found.pp}?"], "n1"),
            ],
        ),
        Part(
            [
                "For much of the time between {y2} and {y3}, however, it was {p3} who {lead.past} "
                "{o1} from an office in {l3}.",
                "From {y2} on {o1} was in the hands of {p3}, who {lead.past} it from {l3} until "
                "{y3}.",
            ],
            [
                (["Who {lead.past} {o1} between {y2} and {y3}?"], "p3"),
                (["Where was the office of {p3}?"], "l3"),
            ],
        ),
        Part(
            [
                "Critics were fond of {w1}, which was {publish.pp} in {y3}, whereas {w2}, a much "
                "longer book, was a failure.",
                "The book {w1}, {publish.pp} in {y3}, was a success with the critics; {w2} was "
                "not.",
            ],
            [
                (
                    [
                        "Which book by {p1} were the critics fond of?",
                        "What was a success with the critics?",
                    ],
                    "w1",
                ),
                (["Which book was a failure?"], "w2"),
                (["In which year was {w1} {publish.pp}?"], "y3"),
            ],
        ),
        Part(
            [
                "Late in life {p1.last} {award.past} a prize of {k1} pounds, most of which was "
                "soon in the hands of {p4}, a relative with {k2} pounds of debts.",
                "The relative, {p4}, whose debts were {k2} pounds, was the first to be aware that "
                "{p1.last} had {award.pp} a prize of {k1} pounds.",
            ],
            [
                (["How many pounds was the prize of {p1} worth?"], "k1"),
                (["How many pounds were the debts of {p4}?"], "k2"),
                (["Who was the relative of {p1}?"], "p4"),
            ],
        ),
    ],
    "Buildings": [
        Part(
            [
                "The {b1} in {l1} was {make.pp} by {p1} in {y2}, on the site of a {b2} of {y1}.",
                "In {y2}, on a site where there had been a {b2} since {y1}, {p1} {make.past} the "
                "{b1} in {l1}.",
            ],
            [
                (["When was the {b1} in {l1} {make.pp}?", "What is the year of the {b1}?"], "y2"),
                (["From which year was the {b2}?"], "y1"),
                (["Who {make.past} the {b1} in {l1}?", "By whom was the {b1} {make.pp}?"], "p1"),
            ],
        ),
        Part(
            [
                "The stone was from {l2}, while the timber, of which {k1} tonnes were necessary, "
                "was from {l3}.",
                "Whereas the stone was from {l2}, all {k1} tonnes of timber were from {l3}.",
            ],
            [
                (["Where was the stone from?", "From which place was the stone?"], "l2"),
                (["Where was the timber from?", "From which place was the timber?"], "l3"),
                (["How many tonnes of timber were there?"], "k1"),
            ],
        ),
        Part(
            [
                "A fire {destroy.past} the roof on {d1}, and it was not until {d2} that visitors "
                "were welcome again.",
                "On {d1} the roof was {destroy.pp} in a fire; visitors were not welcome "
                "again until {d2}.",
            ],
            [
                (["When was the roof {destroy.pp}?", "On which day was the fire?"], "d1"),
                (["From which day were visitors welcome again?"], "d2"),
            ],
        ),
        Part(
            [
                "The present owner of the {b1} is {o1}, although {o2} {say.past} for years that "
                "the sale was against the law.",
                "{o2}, which {say.past} that the sale was against the law, is still at odds with "
                "{o1}, the present owner.",
            ],
            [
                (["Who is the present owner of the {b1}?"], "o1"),
                (["Which institution {say.past} that the sale was against the law?"], "o2"),
            ],
        ),
        Part(
            [
                "On an average day there are {n1} visitors, most of them in the hope that {p2}, "
                "the warden, and not {p3}, the gardener, will be their guide.",
                "{p2}, the warden, is a better guide than {p3}, the gardener, in the opinion of "
                "the {n1} visitors on an average day.",
            ],
            [
                (["How many visitors are there on an average day?"], "n1"),
                (["Who is the warden?", "What is the name of the warden?"], "p2"),
                (["Who is the gardener?"], "p3"),
            ],
        ),
    ],
    "Voyages": [
        Part(
            [
                "On {d1} the {s1}, with {p1} as captain and {n2} people on board, {depart.past} "
                "from {l1} for {l2}.",
                "The {s1}, whose captain was {p1}, {depart.past} from {l1} for {l2} on {d1}, with "
                "{n2} people on board.",
            ],
            [
                (["Who was the captain of the {s1}?"], "p1"),
                (["How many people were on board the {s1}?"], "n2"),
                (["On which day did the {s1} {depart.base}?"], "d1"),
                (
                    [
                        "To which port was the {s1} on its way?",
                        "What was the destination of the {s1}?",
                    ],
                    "l2",
                ),
                (["From which port did the {s1} {depart.base}?"], "l1"),
            ],
        ),
        Part(
            [
                "A much smaller ship, the {s2}, with {p2} as captain and a crew of {n1}, was not "
                "far behind.",
                "Not far behind was the {s2}, a much smaller ship with a crew of {n1} and {p2} as "
                "captain.",
            ],
            [
                (["Who was the captain of the {s2}?"], "p2"),
                (["How many people were in the crew of the {s2}?"], "n1"),
                (["What was the name of the smaller ship?"], "s2"),
            ],
        ),
        Part(
            [
                "The cargo of the {s1} was {k1} {g1}, and under them, as {p3} later {say.past}, "
                "were {k2} {g2} for which there were no papers.",
                "On board the {s1} were {k1} {g1} and also, {p3} later {say.past}, {k2} {g2} "
                "without any papers.",
            ],
            [
                (["How many {g1} were on board?", "How many {g1} were there?"], "k1"),
                (["How many {g2} were on board?", "How many {g2} were there?"], "k2"),
                (["For which goods were there no papers?"], "g2"),
                (["According to whom were there {g2} on board?"], "p3"),
            ],
        ),
        Part(
            [
                "By {d2} there was no more news from the {s1}, and by {d3} even the owner, {f1}, "
                "was without hope.",
                "After {d2} there was no more news from the {s1}; the owner, {f1}, was without "
                "hope by {d3}.",
            ],
            [
                (["By when was the owner without hope?"], "d3"),
                (["From which day was there no more news from the {s1}?"], "d2"),
                (["Who was the owner of the {s1}?"], "f1"),
            ],
        ),
        Part(
            [
                "Only in {y2}, {n3} miles from {l3}, was the wreck of the {s1} {discover.pp} by "
                "{p4}.",
                "It was {p4} who in {y2} {discover.past} the wreck of the {s1}, {n3} miles from "
                "{l3}.",
            ],
            [
                (["Who {discover.past} the wreck?"], "p4"),
                (["In which year was the wreck {discover.pp}?"], "y2"),
                (["How many miles from {l3} was the wreck?"], "n3"),
                (["What is the nearest place to the wreck?"], "l3"),
            ],
        ),
    ],
    "Firms": [
        Part(
            [
                "{f1} was {found.pp} in {y1} by {p1}, a former {j1}, in a shed behind the {b1} in "
                "{l1}.",
                "In a shed behind the {b1} in {l1}, the former {j1} {p1} {found.past} {f1} in "
                "{y1}.",
            ],
            [
                (["Who {found.past} {f1}?", "By whom was {f1} {found.pp}?"], "p1"),
                (["When was {f1} {found.pp}?", "In which year was {f1} {found.pp}?"], "y1"),
                (["Where was {f1} {found.pp}?"], "l1"),
                (["What had {p1} been before the time at {f1}?"], "j1"),
            ],
        ),
        Part(
            [
                "In its first year it {trade.past} {k1} {g1}, of which {n1} were for customers in "
                "{l2}.",
                "Of the {k1} {g1} that it {trade.past} in its first year, {n1} were for customers "
                "in {l2}.",
            ],
            [
                (["How many {g1} did {f1} {trade.base} in its first year?"], "k1"),
                (["How many {g1} were for customers in {l2}?"], "n1"),
                (["What did {f1} {trade.base} in its first year?"], "g1"),
            ],
        ),
        Part(
            [
                "{p2}, who {lead.past} the firm from {y2} on, was also responsible for the plant "
                "in {l3}, which {begin.past} with the production of {g2} in {y3}.",
                "From {y2} on the firm was {lead.pp} by {p2}, and in {y3} a plant in {l3} "
                "{begin.past} with the production of {g2}.",
            ],
            [
                (["Who {lead.past} the firm from {y2} on?"], "p2"),
                (["From which year on was the firm {lead.pp} by {p2}?"], "y2"),
                (["Where was the plant for {g2}?"], "l3"),
                (["When did the production of {g2} {begin.base}?"], "y3"),
            ],
        ),
        Part(
            [
                "After a strike by {k2} of its staff, its rival {f2} {takeover.past} it for a mere "
                "{k3} pounds, as the newspapers {say.past}.",
                "In the end, after a strike by {k2} of the staff, it was its rival {f2} that "
                "{takeover.past} it, at a cost of {k3} pounds.",
            ],
            [
                (
                    ["By which firm was {f1} {takeover.pp}?", "Which firm {takeover.past} {f1}?"],
                    "f2",
                ),
                (["How many members of the staff were on strike?"], "k2"),
                (["At what cost, in pounds, was {f1} {takeover.pp}?"], "k3"),
            ],
        ),
        Part(
            [
                "Among its lawyers was {p3}, while {p4} was for a short time its {role}.",
                "For a short time {p4} was its {role}, and {p3} was among its lawyers.",
            ],
            [
                (["Who was for a short time the {role} of {f1}?"], "p4"),
                (["Who was a lawyer of {f1}?"], "p3"),
                (["What was {p4} at {f1}?"], "role"),
            ],
        ),
    ],
    "Events": [
        Part(
            [
                "The first {e1} in {l1} {begin.past} on {d1} and was over by {d2}, with {k1} "
                "visitors in all.",
                "With {k1} visitors in all, the first {e1} in {l1} {begin.past} on {d1} and was "
                "over by {d2}.",
            ],
            [
                (["When did the first {e1} in {l1} {begin.base}?"], "d1"),
                (["By when was the {e1} over?"], "d2"),
                (["How many visitors were there at the {e1}?"], "k1"),
                (["Where was the {e1}?", "In which town was the {e1}?"], "l1"),
            ],
        ),
        Part(
            [
                "The gold medal was for {p1} of {l2}, and the silver medal for {p2} of {l3}.",
                "{p2} of {l3} had to be content with the silver medal, because the gold medal was "
                "for {p1} of {l2}.",
            ],
            [
                (["For whom was the gold medal?", "Who was the best of all?"], "p1"),
                (["For whom was the silver medal?"], "p2"),
                (["Where was {p1} from?"], "l2"),
                (["Where was {p2} from?"], "l3"),
            ],
        ),
        Part(
            [
                "{p3}, the oldest of the judges at {n2}, {p2p.past} {p4}, the youngest at {n1}, in "
                "front of all the guests.",
                "In front of all the guests, {p4}, at {n1} the youngest of the judges, was "
                "{p2p.pp} by {p3}, at {n2} the oldest.",
            ],
            [
                (["Who {p2p.past} {p4}?", "By whom was {p4} {p2p.pp}?"], "p3"),
                (["Who was {p2p.pp} by {p3}?", "Who was the youngest of the judges?"], "p4"),
                (["How old was {p3}?", "What was the age of the oldest of the judges?"], "n2"),
                (["How old was {p4}?", "What was the age of the youngest of the judges?"], "n1"),
            ],
        ),
        Part(
            [
                "Since the {h1} was too small, most of the {e1} was in the {h2}, at a price "
                "of {k2} pounds.",
                "The {h1} was too small, so that most of the {e1} was in the {h2}, although the "
                "price was {k2} pounds.",
            ],
            [
                (["What was too small?"], "h1"),
                (["Where was most of the {e1}?"], "h2"),
                (["How many pounds was the price of the {h2}?"], "k2"),
            ],
        ),
        Part(
            [
                "A {e2} of the same kind, in {y2}, had been a failure, as had that of {y1}, which "
                "was the fault of {o2}.",
                "There had been failures before: a {e2} in {y2}, and in {y1} another, which was "
                "the fault of {o2}.",
            ],
            [
                (["In which year was a failure the fault of {o2}?"], "y1"),
                (["Whose fault was the failure in {y1}?"], "o2"),
            ],
        ),
    ],
    "Thefts": [
        Part(
            [
                "In the night of {d1} somebody {rob.past} a {t1} worth {k1} pounds and a {t2} "
                "worth {k2} from {o1} in {l1}.",
                "From {o1} in {l1}, in the night of {d1}, somebody {rob.past} a {t1} worth {k1} "
                "pounds and, which was worse, a {t2} worth {k2}.",
            ],
            [
                (["How many pounds was the {t1} worth?", "What was the {t1} worth?"], "k1"),
                (["How many pounds was the {t2} worth?", "What was the {t2} worth?"], "k2"),
                (["In which town is {o1}?", "Where was the crime?"], "l1"),
                (["Of which night is the story?", "When was the crime?"], "d1"),
            ],
        ),
        Part(
            [
                "The suspicion of the police was at first on {p1}, a {j1} without an alibi, but by "
                "{d2} nobody was in any doubt of the guilt of {p2}, a {j2}.",
                "Although {p1}, a {j1}, was without an alibi, by {d2} nobody was in any doubt of "
                "the guilt of {p2}, a {j2} from the same street.",
            ],
            [
                (["Of whose guilt was nobody in any doubt by {d2}?"], "p2"),
                (["Who was without an alibi?"], "p1"),
                (["By when was nobody in any doubt of the guilt of {p2}?"], "d2"),
                (["What was the profession of {p1}?"], "j1"),
                (["What was the profession of {p2}?"], "j2"),
            ],
        ),
        Part(
            [
                "Under a bed in {l2} was the {t1}, while the {t2} was on its way to {l3} in the "
                "luggage of {p3}, a cousin of the thief.",
                "While the {t1} was under a bed in {l2}, {p3}, a cousin of the thief, was on the "
                "way to {l3} with the {t2}.",
            ],
            [
                (["In which place was the {t1}?"], "l2"),
                (
                    [
                        "Where was the {t2} on its way to?",
                        "To which place was the cousin on the way?",
                    ],
                    "l3",
                ),
                (["Who was the cousin of the thief?"], "p3"),
                (["What was under a bed?", "Which of the things was in {l2}?"], "t1"),
                (["What was in the luggage of {p3}?"], "t2"),
            ],
        ),
        Part(
            [
                "The trial {begin.past} on {d3}, before a crowd of {n1}, and the sentence was {n2} "
                "months in prison.",
                "On {d3}, before a crowd of {n1}, the trial {begin.past}; {n2} months in prison "
                "was the sentence.",
            ],
            [
                (
                    [
                        "When did the trial {begin.base}?",
                        "On which day did the trial {begin.base}?",
                    ],
                    "d3",
                ),
                (["How large was the crowd at the trial?"], "n1"),
                (["How many months in prison was the sentence?"], "n2"),
            ],
        ),
        Part(
            [
                "{p4}, who as the {role} of {o1} was responsible for the keys, {say.past} years "
                "later that the {t3} had been a forgery.",
                "Years later the {role} of {o1}, {p4}, {say.past} that the {t3}, which was still "
                "in its place, was a forgery.",
            ],
            [
                (["Who was the {role} of {o1}?"], "p4"),
                (["What was a forgery, according to {p4}?", "Which thing was a forgery?"], "t3"),
            ],
        ),
    ],
    "Science": [
        Part(
            [
                "In {y2}, while on a walk near {l1}, the {j1} {p1} {discover.past} a new kind "
                "of moss, although in the opinion of {p2} it had been {discover.pp} near {l2} as "
                "early as {y1}.",
                "A new kind of moss was {discover.pp} near {l1} in {y2} by the {j1} {p1}, "
                "although {p2} {say.past} that it had been {discover.pp} near {l2} in {y1}.",
            ],
            [
                (["Who {discover.past} the moss near {l1}?"], "p1"),
                (["In which year was the moss near {l1} {discover.pp}?"], "y2"),
                (["Where was {p1} in {y2}?", "Near which place was {p1} in {y2}?"], "l1"),
                (["When, according to {p2}, was the moss near {l2} {discover.pp}?"], "y1"),
            ],
        ),
        Part(
            [
                "Of the {k1} samples, {n1} were soon in the care of {o1}, and {n2} in that of "
                "{o2}.",
                "Only {n1} of the {k1} samples are in the care of {o1}; another {n2} are with "
                "{o2}.",
            ],
            [
                (["How many samples were there in all?"], "k1"),
                (["How many samples were in the care of {o1}?"], "n1"),
                (["How many samples were in the care of {o2}?"], "n2"),
            ],
        ),
        Part(
            [
                "A paper about the moss, {publish.pp} on {d1}, was full of errors, and {p3} was "
                "the first to be aware of them, on {d2}, in a library in {l3}.",
                "On {d2}, in a library in {l3}, {p3} was the first to be aware of the errors in "
                "the paper, which had been {publish.pp} on {d1}.",
            ],
            [
                (["When was the paper {publish.pp}?"], "d1"),
                (["When was {p3} aware of the errors?"], "d2"),
                (["Who was the first to be aware of the errors?"], "p3"),
                (["Where is the library?", "In which town was {p3} on {d2}?"], "l3"),
            ],
        ),
        Part(
            [
                "The moss is no more than {n3} millimetres high, whereas its nearest relative, on "
                "the coast of {l4}, may be as high as {n4}.",
                "With a height of {n3} millimetres the moss is smaller than its nearest relative, "
                "on the coast of {l4}, which may be {n4} millimetres high.",
            ],
            [
                (["How many millimetres high is the moss?"], "n3"),
                (["How many millimetres high may its nearest relative be?"], "n4"),
                (["On which coast is the nearest relative of the moss at home?"], "l4"),
            ],
        ),
        Part(
            [
                "The name of the moss is in honour of {p4}, a patient teacher, and not, as "
                "guidebooks have it, of the {s1}, a ship.",
                "Guidebooks have it that the name of the moss is in honour of the {s1}, a "
                "ship, but "
                "it is in honour of {p4}, a patient teacher.",
            ],
            [
                (["In whose honour is the name of the moss?", "Who was a patient teacher?"], "p4"),
                (["What was the name of the ship?"], "s1"),
            ],
        ),
    ],
    "Elections": [
        Part(
            [
                "{p1}, who was {n1} years old, was the new mayor of {l1} after the election of "
                "{d1}, with {k1} votes to the {k2} of {p2}.",
                "With {k1} votes, against {k2} for {p2}, {p1}, at the age of {n1}, was the new "
                "mayor of {l1} after the election of {d1}.",
            ],
            [
                (["Who was the new mayor of {l1}?", "For whom were most of the votes?"], "p1"),
                (["How many votes were there for {p1}?"], "k1"),
                (["How many votes were there for {p2}?"], "k2"),
                (["How old was {p1}?"], "n1"),
                (["On which day was the election?", "When was the election?"], "d1"),
            ],
        ),
        Part(
            [
                "The main point of dispute had been a loan from {o1} for a {b1} and a {b2}; "
                "{p3} {say.past} that it was too high.",
                "A loan from {o1}, for a {b1} and a {b2}, had been the main point of dispute, and "
                "{p3} {say.past} that it was too high.",
            ],
            [
                (["From whom was the loan?"], "o1"),
                (["Who {say.past} that the loan was too high?"], "p3"),
            ],
        ),
        Part(
            [
                "By {d2} the mayor had {p2p.pp} {p4}, who was head of the police, and by {d3} the "
                "whole council was on strike.",
                "The mayor had {p2p.pp} {p4}, then head of the police, by {d2}, with the result "
                "that the council was on strike by {d3}.",
            ],
            [
                (["Who was head of the police?", "Who was {p2p.pp} by the mayor?"], "p4"),
                (["By when was the council on strike?"], "d3"),
                (["By when had the mayor {p2p.pp} {p4}?"], "d2"),
            ],
        ),
        Part(
            [
                "Turnout was {n3} per cent in the old town but no more than {n2} per cent on the "
                "other side of the river, where the {e1} was on the same day.",
                "On the other side of the river, where the {e1} was on the same day, turnout was "
                "only {n2} per cent, against {n3} per cent in the old town.",
            ],
            [
                (["What was the turnout, in per cent, in the old town?"], "n3"),
                (
                    ["What was the turnout, in per cent, on the other side of the river?"],
                    "n2",
                ),
                (["What else was there on the same day?"], "e1"),
            ],
        ),
        Part(
            [
                "In {y1} the town had been part of the county of {l2}, and since {y2} it had been "
                "part of that of {l3}, so that nobody was quite sure which law was valid.",
                "Since {y2} the town had been part of the county of {l3}, but in {y1} it had still "
                "been part of that of {l2}.",
            ],
            [
                (["Of which county was the town part in {y1}?"], "l2"),
                (["Of which county was the town part from {y2} on?"], "l3"),
                (["Since when had the town been part of the county of {l3}?"], "y2"),
            ],
        ),
    ],
    "Matches": [
        Part(
            [
                "In the final, on {d1} in {l1}, {l2} {win.past} {l3} by {n1} points, as it had "
                "done by {n2} in {y1}.",
                "By a margin of {n1} points, {l2} {win.past} {l3} in the final on {d1} in {l1}; "
                "in {y1} the margin had been {n2}.",
            ],
            [
                (["Where was the final?", "In which town was the final?"], "l1"),
                (["When was the final?"], "d1"),
                (["Which team {win.past} {l3} in the final?", "Who were the winners?"], "l2"),
                (["Which team was {win.pp} in the final?", "Who were the losers?"], "l3"),
                (["By how many points did {l2} {win.base} {l3} in the final?"], "n1"),
                (["What had the margin been in {y1}?"], "n2"),
            ],
        ),
        Part(
            [
                "{p1}, the captain of {l2}, was responsible for {n3} of the points, and {p2}, who "
                "was ill, for none.",
                "While {p2} was ill, {p1}, the captain of {l2}, was responsible for {n3} of the "
                "points.",
            ],
            [
                (["Who was the captain of {l2}?"], "p1"),
                (["Who was ill?"], "p2"),
                (["For how many points was {p1} responsible?"], "n3"),
            ],
        ),
        Part(
            [
                "The trophy, a {t1} of some value, was a gift of {o1}, but the ball was from {o2}.",
                "Whereas the ball was from {o2}, the trophy, a {t1} of some value, was a gift of "
                "{o1}.",
            ],
            [
                (["From whom was the trophy?", "Whose gift was the trophy?"], "o1"),
                (["From whom was the ball?"], "o2"),
                (["What was the trophy?"], "t1"),
            ],
        ),
        Part(
            [
                "There were {k1} people in the stands, {n4} of them without a ticket, and the "
                "pitch was full of water.",
                "Of the {k1} people in the stands, {n4} were without a ticket.",
            ],
            [
                (["How many people were in the stands?"], "k1"),
                (["How many people were without a ticket?"], "n4"),
            ],
        ),
        Part(
            [
                "{p3}, once a referee in {l4}, {say.past} to the newspapers that the true hero was "
                "{p4}, the doctor of the team.",
                "The true hero, {say.past} {p3}, who had once been a referee in {l4}, was {p4}, "
                "the doctor of the team.",
            ],
            [
                (["Who had once been a referee?", "According to whom was {p4} the hero?"], "p3"),
                (["Who was the true hero, according to {p3}?", "Who was the doctor?"], "p4"),
                (["Where had {p3} been a referee?"], "l4"),
            ],
        ),
    ],
}
