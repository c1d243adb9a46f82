"""Sentence templates of the entailment set.

Slots: x is the value for which the claim is true, y a value of the same kind that belongs to
something else; h (and k) are the values in the hypothesis. Content verbs are always slots, so that
each split can have its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import common as c

OPINIONS = c.listed(
    "unsafe,too costly,half empty,in poor condition,a great success,far too small,out of date,"
    "the pride of the county,due for closure,popular with children",
    ",",
)
COMPARISONS = [
    ("older", "younger"),
    ("taller", "shorter"),
    ("richer", "poorer"),
    ("stronger", "weaker"),
    ("more patient", "less patient"),
    ("better at chess", "worse at chess"),
]
FILLERS = (
    "{r}, the editor of the local paper, was not there at the time.",
    "The weather in {m} was fine for once.",
    "It was, as {r} {say.past}, the strangest season in the history of the district.",
    "Nothing of the kind had ever been in the newspapers before.",
    "{r}, who had {move.pp} from {m} only a few months before, was the first with the news.",
    "There was little else in the letters of {r} that autumn.",
    "None of this was of any interest to {r}, then a student in {m}.",
    "The price of bread was high, and the mood in the streets of {m} was bad.",
    "For {r}, whose health was poor, it was all a matter of indifference.",
    "In the same week there was a meeting in {m} about the new railway line.",
    "Years later the grandchildren of {r} were still full of the story.",
    "The source for all this is a diary that was for a long time in the hands of {r}.",
)
VESSELS = c.listed("ferry,freighter,tugboat,steamer,research vessel", ",")


@dataclass(frozen=True)
class Family:
    """Templates that state one kind of fact, and the contrasts they allow.

    modes: "other" (the hypothesis takes the value of something else in the premise; "absent" uses
    the same templates), "swap" (two roles change places), "deny" (a negation decides).
    denials: premises in which the claim is false, where x and y alone do not make it so.
    negated: hypotheses that deny the claim.
    """

    value: str
    modes: tuple[str, ...]
    premises: list[str]
    hypotheses: list[str]
    denials: list[str] = field(default_factory=list)
    negated: list[str] = field(default_factory=list)


OTHER = ("other",)
SWAP = ("swap",)
DENY = ("deny",)

FAMILIES = [
    Family(  # where somebody went
        "place",
        OTHER,
        [
            "{p} {move.past} to {x} in the spring, whereas {q}, a colleague of long standing, "
            "{move.past} to {y}.",
            "While {q} {move.past} to {y} with the children, {p} {move.past} to {x} alone.",
            "Although most of the family had already {move.pp} to {y}, {p} {move.past} to {x} "
            "after the funeral.",
            "{p}, whose brother was still in {y}, {move.past} to {x} as soon as the roads were "
            "clear.",
            "According to {q}, who was in {y} at the time, it was to {x} that {p} {move.past} in "
            "the end.",
        ],
        [
            "{p} {move.past} to {h}.",
            "It was to {h} that {p} {move.past}.",
            "The place to which {p} {move.past} was {h}.",
        ],
    ),
    Family(  # who made a building
        "person",
        OTHER,
        [
            "The {n} in {l} was {make.pp} by {x}, although the plaque beside the door is in honour "
            "of {y}.",
            "{x} {make.past} the {n} in {l} while {y} was away in {m}.",
            "While {y} was ill, {x} {make.past} the {n} in {l} without any help from the council.",
            "It was {x} who {make.past} the {n} in {l}; {y}, the former mayor, was against the "
            "whole idea.",
            "{y} was the first choice of the committee, but in the end the {n} in {l} was "
            "{make.pp} by {x}.",
        ],
        [
            "{h} {make.past} the {n} in {l}.",
            "The {n} in {l} was {make.pp} by {h}.",
            "It was {h} who {make.past} the {n} in {l}.",
        ],
    ),
    Family(  # year of a building
        "year",
        OTHER,
        [
            "The {n} in {l} was {make.pp} in {x}, and the {n2} on the far side of the square in "
            "{y}.",
            "In {y} the {n2} was {make.pp} at public expense, whereas the {n}, the pride of {l}, "
            "was {make.pp} in {x}.",
            "{p}, who {make.past} the {n} in {l} in {x}, was also behind the {n2} of {y}.",
            "Most guidebooks have {y} as the year in which the {n} in {l} was {make.pp}, but "
            "the correct year is {x}.",
        ],
        [
            "The {n} in {l} was {make.pp} in {h}.",
            "It was in {h} that the {n} in {l} was {make.pp}.",
            "{h} was the year in which the {n} in {l} was {make.pp}.",
        ],
    ),
    Family(  # how many goods
        "count",
        OTHER,
        [
            "{o} {trade.past} {x} {goods} last year, against {y} for its old rival, {u}.",
            "Despite the strike, {x} {goods} were {trade.pp} by {o}, while {u} had to be content "
            "with {y}.",
            "With only {y} {goods} to its name, {u} was far from happy that {o} had {trade.pp} {x} "
            "of them.",
            "In a good month {o} {trade.past} {x} {goods}, although the plan, as {p} {say.past}, "
            "was for {y}.",
        ],
        [
            "{o} {trade.past} {h} {goods}.",
            "{h} {goods} were {trade.pp} by {o}.",
            "The number of {goods} that {o} {trade.past} was {h}.",
        ],
    ),
    Family(  # date of an event
        "date",
        OTHER,
        [
            "The {event} in {l} {begin.past} on {x}, and the {event} in {m} on {y}.",
            "Since the hall was not free on {y}, the {event} in {l} {begin.past} on {x}.",
            "Most of the newspapers had {y} as the date, but the {event} in {l} {begin.past} on "
            "{x}, just as {p} had {say.pp}.",
            "On {x}, in heavy rain, the {event} in {l} {begin.past}, although the posters all over "
            "town had been for {y}.",
        ],
        [
            "The {event} in {l} {begin.past} on {h}.",
            "It was on {h} that the {event} in {l} {begin.past}.",
            "{h} was the day on which the {event} in {l} {begin.past}.",
        ],
    ),
    Family(  # weekday of a departure
        "weekday",
        OTHER,
        [
            "{p} {leave.past} on {x} because nobody else was free on {y}.",
            "{q} had been in favour of {y}, yet it was on {x} that {p} {leave.past}.",
            "The news was all over {l} by {y}, although {q} was sure that it had been on a {x} "
            "that {p} {leave.past}.",
            "The ceremony was on {y}, which was too late, or too early, for {p}, who {leave.past} "
            "on {x}.",
        ],
        [
            "{p} {leave.past} on a {h}.",
            "It was on a {h} that {p} {leave.past}.",
            "{h} was the day on which {p} {leave.past}.",
        ],
    ),
    Family(  # office in an organisation
        "org",
        OTHER,
        [
            "{p}, once a trustee of {y}, was for many years the {role} of {x}.",
            "The {role} of {x}, {p}, was at odds with the board of {y} over the price of timber.",
            "Nobody at {y} was aware that {p} was the {role} of {x}.",
            "As the {role} of {x}, {p} was a frequent guest at {y}, where the food was better.",
            "When {y} was short of money, its best friend was {p}, the {role} of {x}.",
        ],
        [
            "{p} was the {role} of {h}.",
            "The {role} of {h} was {p}.",
            "{h} had {p} as its {role}.",
        ],
    ),
    Family(  # who held an opinion
        "person",
        OTHER,
        [
            "{x} {say.past} that the {n} in {l} was {opinion}, but {y} was of another mind.",
            "In a letter from {m}, where {y} was also a guest, {x} {say.past} that the {n} in {l} "
            "was {opinion}.",
            "The {n} in {l} was {opinion}, {x} {say.past} after a long silence, while {y} was busy "
            "with the guests.",
            "{y} had no opinion on the matter; that the {n} in {l} was {opinion} was the firm view "
            "of {x}.",
        ],
        [
            "{h} {say.past} that the {n} in {l} was {opinion}.",
            "According to {h}, the {n} in {l} was {opinion}.",
            "In the view of {h}, the {n} in {l} was {opinion}.",
        ],
    ),
    Family(  # what somebody said of a building
        "opinion",
        OTHER,
        [
            "{p} {say.past} that the {n} in {l} was {x} and that the {n2} was {y}.",
            "The {n2} was {y}, {p} {say.past}, whereas the {n} in {l} was {x}.",
            "Time and again {p} {say.past} that the {n} in {l} was {x}; that the {n2} was {y} was "
            "never in dispute.",
        ],
        [
            "{p} was of the opinion that the {n} in {l} was {h}.",
            "According to {p}, the {n} in {l} was {h}.",
            "In the view of {p}, the {n} in {l} was {h}.",
        ],
    ),
    Family(  # kinship
        "person",
        OTHER,
        [
            "{p} is the only child of {x} and a distant cousin of {y}.",
            "{y} is no more than a neighbour of {p}, whatever the gossips in {l} may have had in "
            "mind; the parent is {x}.",
            "Although {p} is the heir of {y}, it is {x} whose child {p.last} really is.",
            "At the wedding of {q}, {p} was at the same table as {y}, far away from {x}, the proud "
            "parent.",
        ],
        [
            "{p} is a child of {h}.",
            "{h} is a parent of {p}.",
            "{p} has {h} as a parent.",
        ],
    ),
    Family(  # who took what
        "thing",
        OTHER,
        [
            "{p} {take.past} the {x}, while the {y} was with {q} all along.",
            "In {l}, on the same rainy day, {p} {take.past} a {x} and {q} a {y}.",
            "The {x} was {take.pp} by {p}; as for the {y}, it had been in the attic for years.",
            "{q}, who was only fond of the {y}, was not at all sorry that {p} had {take.pp} the "
            "{x}.",
        ],
        [
            "{p} {take.past} the {h}.",
            "The {h} was {take.pp} by {p}.",
            "What {p} {take.past} was the {h}.",
        ],
    ),
    Family(  # sums of money
        "count",
        OTHER,
        [
            "{p} {money.past} {x} pounds over the winter, and {q} {y}.",
            "While {q} {money.past} no more than {y} pounds in all those months, {p} {money.past} "
            "{x}.",
            "The {y} pounds that {q} {money.past} in {l} were nothing beside the {x} that {p} "
            "{money.past}.",
            "As {r} later {say.past}, {p} {money.past} {x} pounds in a single season, although the "
            "ticket alone was {y}.",
        ],
        [
            "{p} {money.past} {h} pounds.",
            "{h} pounds was the amount that {p} {money.past}.",
            "The sum that {p} {money.past} was {h} pounds.",
        ],
    ),
    Family(  # ages
        "age",
        OTHER,
        [
            "{p} was {x} years old at the time of the flood, and {q} {y}.",
            "Though {q}, at {y}, was the head of the firm, {p}, who was {x}, had the last word.",
            "At the age of {x}, {p} was again in {l}, where {q} had been mayor for {y} months.",
            "The prize was for {p}, who was {x}, and not for the {y} pupils of {q}.",
        ],
        [
            "{p} was {h} years old.",
            "{h} was the age of {p}.",
            "The age of {p} was {h}.",
        ],
    ),
    Family(  # home town
        "place",
        OTHER,
        [
            "{p}, a native of {x}, was on holiday in {y} at the outbreak of the war.",
            "Like so many of the people who {stay.past} in {y}, {p} was a native of {x}.",
            "{q}, who is from {y}, and {p}, who is from {x}, were neighbours for years.",
            "In {y} nobody had ever been so homesick for {x} as {p}, its most famous native.",
        ],
        [
            "{p} is from {h}.",
            "{h} is the home town of {p}.",
            "The home town of {p} is {h}.",
        ],
    ),
    Family(  # length of a voyage
        "days",
        OTHER,
        [
            "The voyage of the {vessel} from {l} to {m} was {x} days long, and the way back {y}.",
            "For {x} days the {vessel} was on its way from {l} to {m}; because of a strike "
            "in port, the crew was there for {y} more.",
            "The {vessel} was {x} days at sea between {l} and {m}, far from the {y} that the owner "
            "had in mind.",
        ],
        [
            "The voyage from {l} to {m} was {h} days long.",
            "The {vessel} was {h} days on its way from {l} to {m}.",
            "From {l} to {m} the {vessel} was {h} days at sea.",
        ],
    ),
    Family(  # winners
        "place",
        OTHER,
        [
            "The team from {x} were the winners of the {event}, with {y} in last place.",
            "For all the noise from the {y} supporters, the winners of the {event} were from {x}.",
            "{p}, whose heart was with {y}, was not glad that the winners of the {event} were from "
            "{x}.",
        ],
        [
            "The winners of the {event} were from {h}.",
            "{h} was the home of the winners of the {event}.",
            "It was a team from {h} that was best at the {event}.",
        ],
    ),
    Family(  # who did which of two things
        "act",
        OTHER,
        [
            "{p} {x.past}, and a little later {q} {y.past}.",
            "While {q} {y.past}, {p} {x.past}.",
            "{p} {x.past} because nobody else in {l} was ready to do so; that {q} {y.past} is "
            "another story.",
            "{p}, who {x.past}, was not in the room when {q} {y.past}.",
            "Once {q} had {y.pp}, there was nobody in {l} who was in any doubt that {p} {x.past}.",
        ],
        [
            "{p} {h.past}.",
            "It was {p} who {h.past}.",
            "{p} was the person who {h.past}.",
        ],
    ),
    Family(  # one did, the other did not
        "person",
        DENY,
        [
            "{x} {act.past}, but {y} did not.",
            "Unlike {y}, {x} {act.past} that afternoon.",
            "{y} was unable to {act.base}; {x} did so without any trouble.",
            "Everyone on the committee except {y} {act.past}, and {x} was the first to do so.",
            "{x} had already {act.pp} by noon, which {y} never did.",
            "{y} could not {act.base}, so {x} did so instead.",
        ],
        [
            "{h} {act.past}.",
            "It is true that {h} {act.past}.",
            "{h} was among those who {act.past}.",
        ],
        negated=[
            "{h} did not {act.base}.",
            "It is not true that {h} {act.past}.",
            "{h} was not among those who {act.past}.",
        ],
    ),
    Family(  # did or did not
        "person",
        DENY,
        [
            "{p} was able to {act.base} in spite of the storm.",
            "In spite of the doubts of {q}, {p} {act.past} in the end.",
            "It is quite true that {p} {act.past}, whatever the opinion of {q}.",
            "{p} was so happy to have {act.pp} that {q} was almost jealous.",
        ],
        [
            "{p} {act.past}.",
            "It is a fact that {p} {act.past}.",
        ],
        denials=[
            "{p} was unable to {act.base} because of the storm.",
            "Contrary to the word of {q}, {p} never {act.past}.",
            "{p} would have {act.pp}, had {q} not been so late.",
            "{p} was so unhappy not to have {act.pp} that {q} was almost sorry.",
        ],
        negated=[
            "{p} did not {act.base}.",
            "It is a fact that {p} did not {act.base}.",
        ],
    ),
    Family(  # one person acts on another
        "person",
        SWAP,
        [
            "{x} {p2p.past} {y} at the {event} in {l}.",
            "{y} was {p2p.pp} by {x} after a long evening at the {event} in {l}.",
            "At the {event} in {l}, where the mayor was also present, {x} {p2p.past} {y} in front "
            "of the whole committee.",
            "As {p} later {say.past}, it was {x} who {p2p.past} {y}, although nobody was there at "
            "the time.",
            "{y}, whom {x} had {p2p.pp} in {l}, was home again within a week.",
            "{x}, who had {p2p.pp} {y} in {l}, was home again within a week.",
        ],
        [
            "{h} {p2p.past} {k}.",
            "{k} was {p2p.pp} by {h}.",
            "It was {h} who {p2p.past} {k}.",
            "{k} was the person whom {h} {p2p.past}.",
        ],
    ),
    Family(  # one organisation acts on another
        "firm",
        SWAP,
        [
            "{x} {o2o.past} {y} in the year of the drought.",
            "After months of rumours, {y} was {o2o.pp} by {x}, much to the surprise of {p}.",
            "{y}, which had been {o2o.pp} by {x}, was the talk of {l} that summer.",
            "{x}, which had {o2o.pp} {y}, was the talk of {l} that summer.",
            "{p}, the {role} of {x}, was proud that it had {o2o.pp} {y}.",
        ],
        [
            "{h} {o2o.past} {k}.",
            "{k} was {o2o.pp} by {h}.",
            "It was {h} that {o2o.past} {k}.",
        ],
    ),
    Family(  # order in time
        "person",
        SWAP,
        [
            "{x} {leave.past} before {y}, to the regret of everyone in {l}.",
            "{y} {leave.past} after {x}, to the regret of everyone in {l}.",
            "Not until {x} had {leave.pp} could {y} do the same.",
            "{x} {leave.past} in the morning, and {y} late in the evening of the same day.",
            "By the time that {y} {leave.past}, it was a month since {x} had done so.",
        ],
        [
            "{h} {leave.past} before {k}.",
            "{k} {leave.past} after {h}.",
            "{h} {leave.past} earlier than {k}.",
            "{k} {leave.past} later than {h}.",
        ],
    ),
    Family(  # comparison
        "person",
        SWAP,
        [
            "{x} is {more} than {y}, although few people in {l} are aware of it.",
            "{y} is {less} than {x}, although few people in {l} are aware of it.",
            "As everyone in {l} is aware, {x} is {more} than {y}, and {p} is more famous than "
            "either.",
            "{y}, who was at school with {p}, is {less} than {x}.",
        ],
        [
            "{h} is {more} than {k}.",
            "{k} is {less} than {h}.",
        ],
    ),
    Family(  # who gave to whom
        "person",
        SWAP,
        [
            "In the autumn {x} {give.past} the {thing} to {y}, although {p} was against it.",
            "The {thing} was {give.pp} to {y} by {x} in the presence of a notary.",
            "The {thing} that {x} {give.past} to {y} was worth more than the whole house in {l}.",
            "It was to {y}, and not to {p}, that {x} {give.past} the {thing}.",
        ],
        [
            "{h} {give.past} the {thing} to {k}.",
            "The {thing} was {give.pp} to {k} by {h}.",
            "It was {h} who {give.past} the {thing} to {k}.",
        ],
    ),
    Family(  # who led after whom
        "person",
        SWAP,
        [
            "{x} was the mayor of {l} before {y}, who was the better speaker.",
            "After many years of {x} as its mayor, {l} was glad of a change, and the next mayor "
            "was {y}.",
            "{y} was the mayor of {l} after {x}, and {p} after both of them.",
        ],
        [
            "{h} was the mayor of {l} before {k}.",
            "{k} was the mayor of {l} after {h}.",
            "As mayor of {l}, {h} was the predecessor of {k}.",
            "As mayor of {l}, {k} was the successor of {h}.",
        ],
    ),
]
