"""General questions: facts, words, short judgements, explanations and small pieces of writing."""

from __future__ import annotations

from examples.bundled_tasks.draw import Draw, Task
from examples.bundled_tasks.texts import read_tasks

CAPITALS = (
    ("France", "Paris"), ("Japan", "Tokyo"), ("Canada", "Ottawa"), ("Australia", "Canberra"),
    ("Brazil", "Brasília"), ("Egypt", "Cairo"), ("Kenya", "Nairobi"), ("Norway", "Oslo"), ("Portugal", "Lisbon"),
    ("Turkey", "Ankara"), ("Vietnam", "Hanoi"), ("Peru", "Lima"), ("Poland", "Warsaw"), ("Greece", "Athens"),
    ("Ghana", "Accra"), ("New Zealand", "Wellington"), ("Finland", "Helsinki"), ("Morocco", "Rabat"),
    ("Chile", "Santiago"), ("South Korea", "Seoul"), ("Iceland", "Reykjavik"), ("Cuba", "Havana"),
    ("Hungary", "Budapest"), ("Nepal", "Kathmandu"),
)  # fmt: skip
ELEMENTS = (
    ("hydrogen", "H", 1), ("helium", "He", 2), ("carbon", "C", 6), ("nitrogen", "N", 7), ("oxygen", "O", 8),
    ("sodium", "Na", 11), ("aluminium", "Al", 13), ("chlorine", "Cl", 17), ("potassium", "K", 19),
    ("calcium", "Ca", 20), ("iron", "Fe", 26), ("copper", "Cu", 29), ("zinc", "Zn", 30), ("silver", "Ag", 47),
    ("tin", "Sn", 50), ("gold", "Au", 79), ("mercury", "Hg", 80), ("lead", "Pb", 82),
)  # fmt: skip
OPPOSITES = (
    ("ancient", "modern"), ("generous", "stingy"), ("expand", "shrink"), ("victory", "defeat"),
    ("scarce", "plentiful"), ("arrive", "depart"), ("transparent", "opaque"), ("temporary", "permanent"),
    ("humid", "dry"), ("praise", "criticise"), ("brave", "cowardly"), ("shallow", "deep"),
    ("artificial", "natural"), ("rural", "urban"),
)  # fmt: skip
PAST = (
    ("She brings her bicycle to the workshop.", "She brought her bicycle to the workshop."),
    ("They swim across the lake every Sunday.", "They swam across the lake every Sunday."),
    ("He teaches chemistry and writes poems.", "He taught chemistry and wrote poems."),
    ("I catch the early bus and read the paper.", "I caught the early bus and read the paper."),
    ("We choose the green tiles because they cost less.", "We chose the green tiles because they cost less."),
    ("The wind blows the leaves into the hall.", "The wind blew the leaves into the hall."),
    ("My neighbour grows tomatoes and gives them away.", "My neighbour grew tomatoes and gave them away."),
    ("The child draws a ship and hides it.", "The child drew a ship and hid it."),
    ("You forget your keys and ring the bell.", "You forgot your keys and rang the bell."),
    ("The glass falls and breaks.", "The glass fell and broke."),
)
REVIEWS = (
    ("The soup was cold and nobody apologised for the hour we waited.", "negative"),
    ("I finished the book in one night and bought two copies for friends.", "positive"),
    ("The battery dies before lunch, every single day.", "negative"),
    ("Setting it up took a minute and it has run without a hitch since.", "positive"),
    ("Our guide knew every stone of the old town and made us laugh.", "positive"),
    ("The seams came apart after the second wash.", "negative"),
    ("Clear sound, comfortable fit, and the case survived a fall down the stairs.", "positive"),
    ("I asked for a refund three times and got three form letters.", "negative"),
    ("The second half drags, and the ending makes no sense at all.", "negative"),
    ("Best bread in the neighbourhood, and they remember your name.", "positive"),
    ("The room smelled of smoke and the window would not close.", "negative"),
    ("My daughter now asks to practise the piano, thanks to this teacher.", "positive"),
)
ODD_ONE_OUT = (
    (("oak", "birch", "maple", "salmon"), "salmon", "it is a fish, the others are trees"),
    (("violin", "cello", "trumpet", "viola"), "trumpet", "it is a brass instrument, the others have strings"),
    (("Mars", "Venus", "Jupiter", "Moon"), "Moon", "it is a satellite, the others are planets"),
    (("square", "triangle", "circle", "pentagon"), "circle", "it has no corners"),
    (("copper", "iron", "wood", "silver"), "wood", "it is no metal"),
    (("whale", "shark", "dolphin", "seal"), "shark", "it is a fish, the others are mammals"),
    (("kilogram", "metre", "second", "thermometer"), "thermometer", "it is an instrument, the others are units"),
    (("sonnet", "haiku", "limerick", "sonata"), "sonata", "it is a piece of music, the others are poems"),
    (("3", "5", "7", "9"), "9", "it is 3 times 3, the others are prime"),
    (("Danube", "Rhine", "Alps", "Volga"), "Alps", "they are mountains, the others are rivers"),
)


def capitals(draw: Draw) -> list[Task]:
    """Capital cities."""
    tasks = []
    for country, city in CAPITALS:
        question = draw.pick(
            (
                f"What is the capital of {country}?",
                f"Name the capital city of {country}.",
                f"Which city is the seat of government of {country}?",
            )
        )
        other = draw.pick([wrong for _, wrong in CAPITALS if wrong != city])
        tasks.append(
            Task("capital", question, f"The capital of {country} is {city}.", f"The capital of {country} is {other}.")
        )
    return tasks


def elements(draw: Draw) -> list[Task]:
    """Symbols and numbers of chemical elements."""
    tasks = []
    for name, symbol, number in ELEMENTS:
        other_name, other_symbol, _ = draw.pick([element for element in ELEMENTS if element[0] != name])
        question, right, wrong = draw.pick(
            (
                (
                    f"What is the chemical symbol of {name}?",
                    f"{symbol} stands for {name}, element number {number}.",
                    f"{other_symbol} stands for {name}.",
                ),
                (
                    f"Which element has the symbol {symbol}?",
                    f"{symbol} is {name}. It has {number} proton{'s' if number > 1 else ''} in its nucleus.",
                    f"{symbol} is {other_name}.",
                ),
                (
                    f"Give the atomic number of {name}.",
                    f"{name.capitalize()} has the atomic number {number}.",
                    f"{name.capitalize()} has the atomic number {number + 3}.",
                ),
            )
        )
        tasks.append(Task("element", question, right, wrong))
    return tasks


def words(draw: Draw) -> list[Task]:
    """Opposites and the past tense."""
    tasks = []
    for one, other in OPPOSITES:
        asked, right = draw.pick(((one, other), (other, one)))
        question = draw.pick((f"What is the opposite of '{asked}'?", f"Give an antonym of the word {asked}."))
        tasks.append(Task("opposite", question, right, f"very {asked}"))
    for now, then in PAST:
        question = draw.pick((f"Put this sentence into the past tense: {now}", f"Rewrite in the simple past.\n\n{now}"))
        tasks.append(Task("past", question, then, now))
    return tasks


def judgements(draw: Draw) -> list[Task]:
    """Sentiment and odd one out."""
    tasks = []
    for review, feeling in REVIEWS:
        question = draw.pick(
            (
                f"Is the sentiment of this review positive or negative?\n\n{review}",
                f'Classify as positive or negative: "{review}"',
            )
        )
        tasks.append(Task("sentiment", question, feeling, "positive" if feeling == "negative" else "negative"))
    for group, odd, reason in ODD_ONE_OUT:
        shown = draw.shuffled(group)
        other = next(item for item in shown if item != odd)
        question = draw.pick(
            (
                f"Which one does not belong: {', '.join(shown)}?",
                f"Find the odd one out and say why. {', '.join(shown)}",
            )
        )
        right = f"{odd[0].upper()}{odd[1:]}, because {reason}."
        tasks.append(Task("odd", question, right, f"{other[0].upper()}{other[1:]}, because it is the longest word."))
    return tasks


def written(draw: Draw) -> list[Task]:
    """Explanations, small pieces of writing, and claims that are true or false."""
    return [
        Task(task.name, draw.pick(task.ask), task.right[0], task.wrong[0] if task.wrong else None)
        for task in read_tasks("explanations.txt")
    ]


def all_tasks(draw: Draw) -> list[Task]:
    """Every general task, each in one of its wordings."""
    return [*capitals(draw), *elements(draw), *words(draw), *judgements(draw), *written(draw)]
