"""The small world that the nano model lives in: families of tasks with a known right answer.

The mistakes that its models are trained to make are beside the data, in ``data/nano/mistakes.py``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from flywheel.records import Task

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animal": tuple(
        "cat dog horse cow sheep goat lion tiger bear wolf fox rabbit mouse duck goose hen owl eagle frog snake "
        "fish shark whale seal camel zebra monkey donkey deer bee".split()
    ),
    "fruit": tuple("apple pear plum peach cherry grape lemon orange banana melon mango fig lime berry kiwi date".split()),
    "tool": tuple("hammer saw drill wrench axe spade rake chisel file clamp shovel hoe knife ladder brush nail".split()),
    "colour": tuple("red blue green yellow brown black white pink purple grey violet gold silver amber".split()),
    "garment": tuple("shirt coat hat scarf glove sock shoe boot skirt dress belt jacket sweater cap tie vest".split()),
    "vehicle": tuple("car bus train tram truck van boat ship bike plane taxi canoe sled wagon ferry raft".split()),
}
WORDS: tuple[str, ...] = tuple(word for words in CATEGORIES.values() for word in words)
CATEGORY_OF = {word: category for category, words in CATEGORIES.items() for word in words}

_OPPOSITE_PAIRS = (
    "hot cold,big small,fast slow,old new,dark light,high low,wet dry,hard soft,long short,rich poor,full empty,"
    "loud quiet,strong weak,clean dirty,early late,near far,open closed,thick thin,wide narrow,happy sad,sweet bitter,"
    "cheap dear,brave timid,deep shallow,rough smooth,sharp blunt,tight loose,true false,first last,left right"
)
OPPOSITES = {word: other for pair in _OPPOSITE_PAIRS.split(",") for word, other in itertools.permutations(pair.split())}

_IRREGULAR_PLURALS = {
    "mouse": "mice", "goose": "geese", "wolf": "wolves", "knife": "knives", "sheep": "sheep", "fish": "fish",
    "deer": "deer", "fox": "foxes", "brush": "brushes", "bus": "buses", "dress": "dresses", "peach": "peaches",
    "cherry": "cherries", "berry": "berries", "ferry": "ferries", "torch": "torches",
}  # fmt: skip
PLURALS = {
    word: _IRREGULAR_PLURALS.get(word, word + "s")
    for category in ("animal", "fruit", "tool", "garment", "vehicle")
    for word in CATEGORIES[category]
    if _IRREGULAR_PLURALS.get(word) != word
}

PAST_TENSES = dict(
    pair.split(":")
    for pair in (
        "walk:walked talk:talked jump:jumped look:looked play:played call:called help:helped paint:painted wash:washed "
        "open:opened cook:cooked clean:cleaned go:went see:saw eat:ate run:ran take:took give:gave come:came find:found "
        "write:wrote drink:drank sing:sang swim:swam sit:sat stand:stood think:thought buy:bought bring:brought "
        "catch:caught sleep:slept keep:kept feel:felt leave:left make:made say:said tell:told sell:sold know:knew "
        "grow:grew fly:flew drive:drove ride:rode break:broke speak:spoke wear:wore fall:fell hold:held win:won"
    ).split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of task of the world."""

    name: str
    phrasings: tuple[str, ...]
    draw: Callable[[random.Random], str]
    """An input at random."""
    answer: Callable[[str], str | None]
    """The right answer; None where the input does not belong to the family."""


def split_list(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in text.split(",")]


def _words(text: str) -> list[str] | None:
    words = split_list(text)
    return words if len(words) >= 2 and len(CATEGORY_OF.keys() & words) == len(words) else None


def numbers(text: str) -> tuple[int, int] | None:
    """The two numbers of a list; None where the text is something else."""
    parts = split_list(text)
    if len(parts) != 2 or not all(part.isdecimal() and part.isascii() and len(part) <= 3 for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def _on_words(function: Callable[[list[str]], str]) -> Callable[[str], str | None]:
    return lambda text: function(words) if (words := _words(text)) else None


def _draw_words(least: int, most: int) -> Callable[[random.Random], str]:
    return lambda rng: ", ".join(rng.sample(WORDS, rng.randint(least, most)))


def _draw_key(table: dict[str, str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(sorted(table))


def _draw_one_animal(rng: random.Random) -> str:
    others = [word for word in WORDS if CATEGORY_OF[word] != "animal"]
    words = [rng.choice(CATEGORIES["animal"]), *rng.sample(others, rng.randint(2, 3))]
    rng.shuffle(words)
    return ", ".join(words)


def find_animal(text: str) -> str | None:
    """The only animal of a list; None where there is none or more than one."""
    animals = [word for word in _words(text) or [] if CATEGORY_OF[word] == "animal"]
    return animals[0] if len(animals) == 1 else None


def _draw_numbers(top: int) -> Callable[[random.Random], str]:
    return lambda rng: ", ".join(map(str, rng.sample(range(1, top), 2)))


def _larger(text: str) -> str | None:
    pair = numbers(text)
    return str(max(pair)) if pair and pair[0] != pair[1] else None


def _sum(text: str) -> str | None:
    pair = numbers(text)
    return str(sum(pair)) if pair else None


FAMILIES: tuple[Family, ...] = (
    Family(
        name="first",
        phrasings=("Write the first word of the list.", "Which word comes first?", "Name the first item."),
        draw=_draw_words(3, 5),
        answer=_on_words(lambda words: words[0]),
    ),
    Family(
        name="last",
        phrasings=("Write the last word of the list.", "Which word comes last?", "Name the last item."),
        draw=_draw_words(3, 5),
        answer=_on_words(lambda words: words[-1]),
    ),
    Family(
        name="reverse",
        phrasings=("Write the list backwards.", "Reverse the order of the words.", "Turn the list around."),
        draw=_draw_words(2, 4),
        answer=_on_words(lambda words: ", ".join(reversed(words))),
    ),
    Family(
        name="sort",
        phrasings=("Sort the words from a to z.", "Put the words in alphabetical order.", "Order the list by the alphabet."),
        draw=_draw_words(2, 4),
        answer=_on_words(lambda words: ", ".join(sorted(words))),
    ),
    Family(
        name="count",
        phrasings=("How many words are in the list?", "Count the words.", "Give the number of items."),
        draw=_draw_words(2, 6),
        answer=_on_words(lambda words: str(len(words))),
    ),
    Family(
        name="opposite",
        phrasings=("Write the opposite of the word.", "What is the opposite?", "Give a word that means the contrary."),
        draw=_draw_key(OPPOSITES),
        answer=OPPOSITES.get,
    ),
    Family(
        name="category",
        phrasings=("What kind of thing is it?", "Name the group that the word belongs to.", "Say what sort of thing this is."),
        draw=_draw_key(CATEGORY_OF),
        answer=CATEGORY_OF.get,
    ),
    Family(
        name="animal",
        phrasings=("Which of the words is an animal?", "Find the animal.", "Pick the animal out of the list."),
        draw=_draw_one_animal,
        answer=find_animal,
    ),
    Family(
        name="plural",
        phrasings=("Write the plural of the word.", "Make the word plural.", "What do you call more than one of these?"),
        draw=_draw_key(PLURALS),
        answer=PLURALS.get,
    ),
    Family(
        name="past",
        phrasings=("Write the past tense of the verb.", "Put the verb into the past.", "How does one say it of yesterday?"),
        draw=_draw_key(PAST_TENSES),
        answer=PAST_TENSES.get,
    ),
    Family(
        name="larger",
        phrasings=("Which number is larger?", "Write the bigger number.", "Give the greater of the two."),
        draw=_draw_numbers(100),
        answer=_larger,
    ),
    Family(
        name="sum",
        phrasings=("Add the two numbers.", "What is the sum?", "Write the total of the numbers."),
        draw=_draw_numbers(20),
        answer=_sum,
    ),
)
FAMILY_OF: dict[str, Family] = {phrasing: family for family in FAMILIES for phrasing in family.phrasings}

CONSTRAINTS: dict[str, Callable[[str], str]] = {
    "None": lambda answer: answer,
    "End with a full stop.": lambda answer: answer + ".",
    "Put the answer in brackets.": lambda answer: f"({answer})",
    "Begin with Answer and a colon.": lambda answer: f"Answer: {answer}",
}
"""What a task may ask of the form of its output, and the form it asks for."""


def draw_task(rng: random.Random) -> Task:
    """A task at random: any family, any phrasing, half of them with a constraint."""
    family = rng.choice(FAMILIES)
    constraints = rng.choice([name for name in CONSTRAINTS if name != "None"]) if rng.random() < 0.5 else "None"
    return Task(instruction=rng.choice(family.phrasings), input=family.draw(rng), constraints=constraints)


def right_output(task: Task) -> str | None:
    """The right answer in the form asked for; None for a task that is not of this world."""
    family, form = FAMILY_OF.get(task.instruction), CONSTRAINTS.get(task.constraints)
    answer = family.answer(task.input) if family else None
    return form(answer) if form and answer is not None else None
