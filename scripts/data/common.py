"""Word lists and small helpers shared by the data generators.

Every list has a separate part for each split, so that splits share no name, content verb or number.
``GENERIC_HEADS`` lists the few words inside names that they share.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SPLITS = ("train", "dev", "test")
DATA_ROOT = Path(__file__).resolve().parents[2] / "configs" / "data"


@dataclass(frozen=True)
class Verb:
    """A verb with the four forms that the templates use."""

    base: str
    past: str
    pp: str
    ing: str

    @property
    def forms(self) -> tuple[str, ...]:
        """Every inflected form, the third person singular included."""
        ending = "es" if self.base.endswith(("s", "x", "ch", "sh")) else "s"
        third = self.base + ending
        if self.base.endswith("y") and self.base[-2] not in "aeiou":
            third = self.base[:-1] + "ies"
        return (self.base, third, self.past, self.pp, self.ing)


@dataclass(frozen=True)
class Person:
    """A person; formats as the full name."""

    first: str
    last: str

    def __str__(self) -> str:
        return f"{self.first} {self.last}"


@dataclass(frozen=True)
class Act:
    """A verb phrase such as "sign the petition"."""

    verb: Verb
    rest: str

    @property
    def base(self) -> str:
        """Infinitive."""
        return f"{self.verb.base} {self.rest}"

    @property
    def past(self) -> str:
        """Simple past."""
        return f"{self.verb.past} {self.rest}"

    @property
    def pp(self) -> str:
        """Past participle."""
        return f"{self.verb.pp} {self.rest}"


def listed(text: str, separator: str | None = None) -> list[str]:
    """The items of a list written as one text."""
    return text.split(separator)


def verb(entry: str) -> Verb:
    """Read "hire" (regular), "build/built/built" or "ship/shipped/shipped/shipping"."""
    parts = entry.split("/")
    base = parts[0]
    if base.endswith("e"):
        past, ing = base + "d", base[:-1] + "ing"
    elif base.endswith("y") and base[-2] not in "aeiou":
        past, ing = base[:-1] + "ied", base + "ing"
    else:
        past, ing = base + "ed", base + "ing"
    past, pp, ing = [*parts[1:], *[past, past, ing][len(parts) - 1 :]]
    return Verb(base, past, pp, ing)


_VERBS: dict[str, dict[str, str]] = {
    "train": {
        "p2p": "hire praise warn mentor interview sue thank defend rescue nominate photograph "
        "criticise promote invite outvote betray",
        "o2o": "acquire supply/supplied/supplied/supplying audit outbid/outbid/outbid/outbidding "
        "advise overtake/overtook/overtaken/overtaking",
        "make": "build/built/built/building design repair survey",
        "move": "move travel/travelled/travelled/travelling sail return",
        "stay": "live settle serve",
        "begin": "open begin/began/begun/beginning",
        "trade": "sell/sold/sold/selling produce import",
        "say": "say/said/said/saying report announce explain admit/admitted/admitted/admitting",
        "leave": "arrive resign retire leave/left/left/leaving",
        "take": "steal/stole/stolen/stealing borrow lose/lost/lost/losing inherit",
        "money": "earn spend/spent/spent/spending save",
        "give": "lend/lent/lent/lending post entrust",
        "depart": "sail",
        "rob": "steal/stole/stolen",
        "takeover": "acquire",
        "found": "found",
        "lead": "chair run/ran/run/running",
        "win": "beat/beat/beaten/beating defeat",
        "award": "win/won/won/winning",
        "discover": "discover uncover",
        "publish": "publish",
        "destroy": "destroy damage",
        "join": "join",
        "see": "see/saw/seen/seeing visit",
    },
    "dev": {
        "p2p": "recruit congratulate accuse coach reprimand shelter insult recommend overrule "
        "tutor consult applaud ridicule question",
        "o2o": "purchase finance insure undercut/undercut/undercut/undercutting absorb bankroll",
        "make": "construct restore renovate enlarge",
        "move": "relocate journey emigrate drive/drove/driven/driving",
        "stay": "reside teach/taught/taught/teaching",
        "begin": "start commence",
        "trade": "deliver manufacture assemble",
        "say": "state confirm claim remark",
        "leave": "depart graduate vanish enlist",
        "take": "buy/bought/bought/buying hide/hid/hidden/hiding pawn "
        "carry/carried/carried/carrying",
        "money": "receive owe donate",
        "give": "give/gave/given/giving send/sent/sent/sending bequeath",
        "depart": "depart",
        "rob": "snatch smuggle",
        "takeover": "purchase",
        "found": "establish",
        "lead": "direct oversee/oversaw/overseen/overseeing",
        "win": "outplay outclass",
        "award": "gain",
        "discover": "identify locate",
        "publish": "release",
        "destroy": "ruin shatter",
        "join": "enter",
        "see": "observe tour",
    },
    "test": {
        "p2p": "appoint blame confront encourage imitate mock reassure scold commend flatter",
        "o2o": "subsidise boycott indemnify lobby/lobbied/lobbied/lobbying endorse",
        "make": "erect demolish repaint fortify",
        "move": "migrate hurry retreat cycle",
        "stay": "linger preach",
        "begin": "resume conclude",
        "trade": "export recycle distribute harvest",
        "say": "argue declare insist reveal",
        "win": "trounce overcome/overcame/overcome/overcoming",
        "lead": "supervise steer",
        "see": "inspect explore",
    },
}

_ACTS: dict[str, tuple[str, ...]] = {
    "train": (
        "sign|the petition",
        "read/read/read/reading|the letter aloud",
        "climb|the north tower",
        "cross|the river on foot",
        "miss|the last train",
        "taste|the soup",
        "whistle|in the corridor",
        "burn|the old records",
        "translate|the poem",
        "lock|the garden gate",
        "sing/sang/sung/singing|at the wedding",
        "feed/fed/fed/feeding|the horses",
    ),
    "dev": (
        "swim/swam/swum/swimming|across the lake",
        "learn|the speech by heart",
        "complain|about the noise",
        "sweep/swept/swept/sweeping|the cellar floor",
        "approve|the budget",
        "ring/rang/rung/ringing|the chapel bell",
        "apologise|to the neighbours",
        "refuse|the medal",
        "bake|the bread",
        "measure|the far field",
        "dance|at the harvest supper",
        "paint|the front door",
    ),
}

FIRST_NAMES: dict[str, list[str]] = {
    "train": listed(
        "Alice Martin Helen Oscar Ruth Victor Clara Hugo Nadia Simon Irene Tomas Greta Edmund "
        "Paula Felix Joan Anton Miriam Walter Sylvia Dennis Laura Ivan Beatrix Carl Rosa Philip "
        "Dora Leonard"
    ),
    "dev": listed(
        "Agnes Bernard Celia Dominic Esther Francis Gloria Harold Ingrid Jerome Katrin Lionel "
        "Margot Nigel Olga Percy Rhoda Stefan Teresa Ulric Vera Wilfred Yvonne Zoe"
    ),
    "test": listed(
        "Abel Bridget Cyril Daphne Elias Fiona Gerald Hilda Isaac Judith Kenneth Lydia Magnus "
        "Nora Owen Phoebe Quentin Rachel Samuel Thea Ursula Vincent Wanda Xavier"
    ),
}
SURNAMES: dict[str, list[str]] = {
    "train": listed(
        "Abernall Brandreth Calloway Dunmore Ellery Fairbourne Garrick Hollis Ives Jessop "
        "Lindqvist Marchetti Norwood Okafor Pemberton Quayle Rosario Selwyn Thackeray Underhill "
        "Varga Whitlock Yarrow Zeller Baptiste Castellan "
        "Drummond Eriksen Falk Grimshaw Hartnell Iversen "
        "Kowal Lockhart Moreau Novak Penrose Rutledge"
    ),
    "dev": listed(
        "Ackerby Bellamy Crowther Devereux Easton Farrow Gallagher Hargreave Ingram Jarvis "
        "Kendrick Lazarus Maddox Nakamura Oduya Pritchard Quill Renshaw Szabo Tolland Upshaw "
        "Vasquez Winslow Zimmer Bancroft Corrigan Delacroix Engstrom Forsythe"
    ),
    "test": listed(
        "Arkwright Blackwood Cartwright Dressler Elphick Fontaine Goodwin Haverstock Ibsen "
        "Janssen Keating Langley Mortensen Nettleship Osgood Pickering Ridley Sandoval Templeton "
        "Ullman Venables Wolcott Yardley Zabinski"
    ),
}
PLACES: dict[str, list[str]] = {
    "train": listed(
        "Halverton,Morwick,Trelane,Kelmouth,Ashcombe,Corriston,Dunvale,Eskford,Fenwater,"
        "Garmouth,Holmstad,Kirkhaven,Lorne Bay,Maldria,Northmere,Pellworth,Quarndale,Rosmarin,"
        "Silverdon,Tarnby,Ulverside,Vestmark,Wexbridge,Yarnmouth,Zelhof,Belcourt,Castelmar,"
        "Drovenia,Port Ellis,Saint Orrin",
        ",",
    ),
    "dev": listed(
        "Aldmoor,Brisby,Calverley,Denholm,Elmsgate,Farleigh,Greywater,Hexworth,Inverlee,Jorvale,"
        "Kingsmoor,Lansford,Melbrook,Netherby,Oakhampton,Pendrick,Quernstone,Ravenglade,Stoneleigh,"
        "Thornbeck,Valdora,Westerham,Yeldon,Port Amery,Saint Maro",
        ",",
    ),
    "test": listed(
        "Ambleford,Birchley,Carrowmore,Dalewick,Everdon,Foxcombe,Glenharrow,Hollowell,Iverness,"
        "Kestonbury,Lymecross,Marstead,Nordheim,Orlova,Pinehurst,Rookwood,Sandhaven,Tilmouth,"
        "Vellano,Whitcastle,Wyndale,Cape Dorran,Port Sallow",
        ",",
    ),
}
# Each of these can be a surname, a town or a club or firm: only the context tells.
AMBIGUOUS: dict[str, list[str]] = {
    "train": listed(
        "Marden Weston Carver Dalton Hampden Lindale Norwell Orton Radley Stanfield Thornton "
        "Wakefield Granger Kingsley Burton Hartwell Ashby Corwen"
    ),
    "dev": listed(
        "Kelso Barton Clifton Denby Eldridge Fairfax Hadley Merrick Ripley Sheldon Travers "
        "Walden Rothwell Stanton"
    ),
    "test": listed(
        "Alston Beaumont Camden Ellison Haddon Linton Morley Redford Selby Tilden Wilton "
        "Prescott Lomax Bramwell"
    ),
}
BRANDS: dict[str, list[str]] = {
    "train": listed("Novatek Brightline Corvex Helmar Tessaly Orbicom Pellucid Varnex"),
    "dev": listed("Quantara Lumenor Ostrix Fendral Mirastar Solvanta"),
    "test": listed("Zephyrix Nordalis Calyptra Vantoro Emberlane Trivera"),
}
ACRONYMS: dict[str, list[str]] = {
    "train": listed("NRTC BFU ELWA KSO TMRG AHP"),
    "dev": listed("UDSC FRLA MTO VNBC GWP"),
    "test": listed("OSKF LPRU CEDN WTHA JBM"),
}
DEMONYMS: dict[str, list[str]] = {
    "train": listed("Velorian Taric Morvian Estran Karsian Ulmish Brenese"),
    "dev": listed("Dalmaric Sorvenian Pelgian Ostmarish Quessian"),
    "test": listed("Jantish Rhovanese Lucadian Mireen Torvic"),
}
WORKS: dict[str, list[str]] = {
    "train": listed(
        "The Glass Orchard,Letters from the Ice,Winter Harbour,A Quiet Fever,The Ninth "
        "Lantern,Salt and Cinders,The Weaver of Storms,Nights without Snow",
        ",",
    ),
    "dev": listed(
        "The Paper Crown,Songs of the Marsh,Hollow Kingdom,A Crooked Moon,The Copper Stair,"
        "Thistle and Flame,Daughters of Dusk",
        ",",
    ),
    "test": listed(
        "The Silver Heron,Maps of Silence,Autumn Republic,A Distant Choir,The Clockmaker's Dog,"
        "Velvet and Ash,Children of Dust",
        ",",
    ),
}
SHIPS: dict[str, list[str]] = {
    "train": listed(
        "Amaranth,Northern Swan,Calliope,Dauntless,Sea Bramble,Perpetua,Grey Falcon,Evangeline", ","
    ),
    "dev": listed("Halcyon,Western Pearl,Juniper,Redoubtable,Wild Heather,Octavia", ","),
}
MONTHS: dict[str, list[str]] = {
    "train": listed("January March April June September November"),
    "dev": listed("February July October"),
    "test": listed("May August December"),
}
CALENDAR = listed(
    "January February March April May June July August September October November December"
)
WEEKDAYS: dict[str, list[str]] = {
    "train": listed("Monday Wednesday Friday"),
    "dev": listed("Tuesday Sunday"),
    "test": listed("Thursday Saturday"),
}

ORG_HEADS = listed(
    "Institute Council Society Bank Trust Museum University Railway Theatre Hospital"
)
FIRM_HEADS = listed("Foundry Shipyard Mills Works Brewery Press")
SPORT_HEADS = listed("Cup Derby Marathon Trophy Regatta")
PACT_HEADS = listed("Treaty Accord Convention")
FAIR_HEADS = listed("Festival Biennale Fair")
# Words that names of different splits may share.
GENERIC_HEADS = frozenset(
    [
        *ORG_HEADS,
        *FIRM_HEADS,
        *SPORT_HEADS,
        *PACT_HEADS,
        *FAIR_HEADS,
        "Port",
        "Saint",
        "the",
        "The",
        "of",
        "A",
        "and",
        "from",
        "without",
    ]
)

# Common nouns; these are shared by all splits.
BUILDINGS = listed(
    "bridge,lighthouse,town hall,chapel,library,railway station,concert hall,windmill,harbour wall,"
    "market hall,observatory,school",
    ",",
)
HALLS = listed("town hall,chapel,library,concert hall,market hall,school", ",")
EVENTS = listed(
    "flower show,book fair,boat race,trade congress,film festival,chess tournament,art exhibition,"
    "science fair,poetry contest,charity concert",
    ",",
)
THINGS = listed(
    "violin,lantern,ledger,compass,clock,carpet,map,telescope,necklace,saddle,mirror,portrait", ","
)
GOODS = listed(
    "tractors,bicycles,carpets,textbooks,pianos,lamps,pumps,sewing machines,kettles", ","
)
ROLES = listed(
    "treasurer,secretary,head librarian,chief engineer,legal adviser,vice-president", ","
)
JOBS = listed("botanist,composer,surgeon,journalist,sculptor,geologist,lawyer,poet,chemist", ",")


def verbs(split: str, kind: str) -> list[Verb]:
    """The verbs of one class in one split."""
    return [verb(entry) for entry in _VERBS[split][kind].split()]


def verb_kinds(split: str) -> list[str]:
    """The verb classes that a split has."""
    return list(_VERBS[split])


def acts(split: str) -> list[Act]:
    """The verb phrases of one split."""
    pairs = (entry.split("|") for entry in _ACTS[split])
    return [Act(verb(head), rest) for head, rest in pairs]


def verb_forms(split: str) -> set[str]:
    """Every inflected form of every content verb of a split."""
    found = {form for kind in verb_kinds(split) for v in verbs(split, kind) for form in v.forms}
    return found | {
        form for act in (acts(split) if split in _ACTS else []) for form in act.verb.forms
    }


def number_split(number: int) -> str:
    """The one split that may use this number (also as a day, a year or a score)."""
    return ("train", "train", "dev", "test")[number % 4]


def numbers(split: str, low: int, high: int, step: int = 1) -> list[int]:
    """The numbers from low to high (inclusive) that a split may use."""
    return [n for n in range(low, high + 1, step) if number_split(n) == split]


def years(split: str) -> list[int]:
    """Years that a split may use."""
    return numbers(split, 1840, 1995)


def date(rng: random.Random, split: str) -> str:
    """A day such as "14 July"."""
    return f"{rng.choice(numbers(split, 1, 28))} {rng.choice(MONTHS[split])}"


def in_calendar_order(dates: list[str]) -> list[str]:
    """Dates of one year, the earliest first."""
    return sorted(dates, key=lambda day: (CALENDAR.index(day.split()[1]), int(day.split()[0])))


def people(rng: random.Random, split: str, count: int) -> list[Person]:
    """People who share neither first name nor surname."""
    firsts = rng.sample(FIRST_NAMES[split], count)
    return [Person(*pair) for pair in zip(firsts, rng.sample(SURNAMES[split], count), strict=True)]


def named(rng: random.Random, split: str, heads: Sequence[str], count: int) -> list[str]:
    """Different stems with different heads, after the article."""
    stems = rng.sample(AMBIGUOUS[split], count)
    return [
        f"the {stem} {head}" for stem, head in zip(stems, rng.sample(heads, count), strict=True)
    ]


def orgs(rng: random.Random, split: str, count: int) -> list[str]:
    """Organisations of any kind."""
    return named(rng, split, ORG_HEADS, count)


def firms(rng: random.Random, split: str, count: int) -> list[str]:
    """Organisations that make and sell things."""
    return named(rng, split, FIRM_HEADS, count)


def distinct(draw: Callable[[], T], count: int) -> list[T]:
    """Call draw until it has given count different values."""
    values: list[T] = []
    while len(values) < count:
        value = draw()
        if value not in values:
            values.append(value)
    return values


def verb_slots(rng: random.Random, split: str) -> dict[str, object]:
    """One verb of every class, under the class's name."""
    return {kind: rng.choice(verbs(split, kind)) for kind in verb_kinds(split)}


def sentence_case(text: str) -> str:
    """Capital first letter, the rest unchanged."""
    return text[0].upper() + text[1:]


def cycle_shuffled(rng: random.Random, items: Sequence[T], count: int) -> list[T]:
    """Count items, each item used about equally often, in random order."""
    repeated = [items[i % len(items)] for i in range(count)]
    rng.shuffle(repeated)
    return repeated


def out_dir(description: str | None, name: str) -> Path:
    """Read --out from the command line and make the folder."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=DATA_ROOT / name, help="output folder")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with Unix line ends on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")
