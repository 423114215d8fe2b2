"""Arithmetic of everyday life, in words. Numbers stand in the question in the order the solution needs them."""

from __future__ import annotations

from examples.bundled_tasks.draw import Draw, Maker, Task

NAMES = (
    "Amira",
    "Ben",
    "Chidi",
    "Dana",
    "Elif",
    "Farid",
    "Greta",
    "Hana",
    "Ivo",
    "Jun",
    "Kofi",
    "Lena",
    "Mateo",
    "Nora",
)
ITEMS = ("notebooks", "mangoes", "postcards", "candles", "tickets", "paint brushes", "light bulbs", "sandwiches")


def change(draw: Draw) -> Task:
    """Money back after a purchase."""
    name, item = draw.pick(NAMES), draw.pick(ITEMS)
    count, price = draw.between(3, 9), draw.between(2, 9)
    note = next(note for note in (20, 50, 100) if note > count * price)
    question = draw.pick(
        (
            f"{name} buys {count} {item} for ${price} each and pays with a ${note} note. How much change "
            f"does {name} get?",
            f"A shop sells {item}. {name} takes {count} of them at ${price} apiece and hands over "
            f"${note}. What is the change?",
            f"How much money does {name} get back after buying {count} {item} at ${price} each with a ${note} note?",
        )
    )
    cost = count * price
    return Task(
        "change",
        question,
        f"The {item} cost {count} * {price} = {cost} dollars.\nThe change is {note} - {cost} = "
        f"{note - cost} dollars.\n"
        f"Answer: {note - cost}",
        f"The {item} cost {count} + {price} = {count + price} dollars, so the change is "
        f"{note} - {count + price} = {note - count - price} dollars.\nAnswer: {note - count - price}",
    )


def discount(draw: Draw) -> Task:
    """Price after a percentage off."""
    price, percent = draw.between(2, 18) * 20, draw.pick((5, 10, 15, 20, 25, 30, 40, 60))
    thing = draw.pick(("coat", "bicycle", "lamp", "tent", "phone", "desk"))
    off = price * percent // 100
    question = draw.pick(
        (
            f"A {thing} costs ${price}. In the sale it is {percent}% cheaper. What is the sale price?",
            f"What do you pay for a ${price} {thing} with {percent} percent off?",
            f"The price of a {thing} was ${price} before it was cut by {percent}%. What is it now?",
        )
    )
    return Task(
        "discount",
        question,
        f"{percent}% of {price} is {price} * {percent} / 100 = {off}. That leaves {price} - {off} = "
        f"{price - off} dollars."
        f"\nAnswer: {price - off}",
        f"{percent}% means {percent} dollars less, so you pay {price + off} dollars.\nAnswer: {price + off}",
    )


def sharing(draw: Draw) -> Task:
    """Division with a remainder."""
    friends, each, left = draw.between(3, 9), draw.between(4, 15), draw.between(1, 2)
    total = friends * each + left
    thing = draw.pick(("sweets", "stickers", "marbles", "strawberries", "playing cards"))
    question = draw.pick(
        (
            f"{total} {thing} are shared equally among {friends} children. How many are left over?",
            f"You deal {total} {thing} evenly to {friends} people. How many remain that cannot be dealt?",
        )
    )
    return Task(
        "sharing",
        question,
        f"Everyone gets {each}, because {friends} * {each} = {friends * each}. "
        f"What remains is {total} - {friends * each} = {left}.\nAnswer: {left}",
        f"{total} can be divided by {friends} without a remainder, so nothing is left.\nAnswer: 0",
    )


def age(draw: Draw) -> Task:
    """Ages in some years."""
    older, younger = draw.some(NAMES, 2)
    now, gap, later = draw.between(4, 30), draw.between(2, 15), draw.between(3, 12)
    question = draw.pick(
        (
            f"{younger} is {now} years old and {older} is {gap} years older. How old will {older} be in {later} years?",
            f"Today {younger} turned {now}. {older} was born {gap} years earlier. What will {older}'s "
            f"age be {later} years from now?",
        )
    )
    return Task(
        "age",
        question,
        f"{older} is {now} + {gap} = {now + gap} today and will be {now + gap} + {later} = {now + gap + later}.\n"
        f"Answer: {now + gap + later}",
        f"{older} is {now} + {gap} = {now + gap} years old.\nAnswer: {now + gap}",
    )


def interest(draw: Draw) -> Task:
    """Simple interest."""
    capital, rate, years = draw.between(2, 40) * 100, draw.between(2, 9), draw.between(2, 8)
    yearly = capital * rate // 100
    question = draw.pick(
        (
            f"How much simple interest does ${capital} earn at {rate}% a year over {years} years?",
            f"{draw.pick(NAMES)} lends ${capital} at a simple interest rate of {rate} percent. "
            f"How many dollars of interest are due after {years} years?",
        )
    )
    return Task(
        "interest",
        question,
        f"One year brings {capital} * {rate} / 100 = {yearly} dollars. "
        f"Over {years} years that is {yearly} * {years} = {yearly * years} dollars.\nAnswer: {yearly * years}",
        f"One year brings {yearly} dollars, and so do {years} years together.\nAnswer: {yearly}",
    )


def fraction(draw: Draw) -> Task:
    """A fraction of a group."""
    part, whole = draw.pick(((1, 3), (2, 3), (1, 4), (3, 4), (2, 5), (3, 5), (4, 5), (5, 6), (3, 8)))
    unit = draw.between(4, 25)
    total = whole * unit
    group, habit = draw.pick(
        (("students", "walk to school"), ("books", "are novels"), ("seats", "are taken"), ("trees", "are oaks"))
    )
    question = draw.pick(
        (
            f"Of {total} {group}, {part}/{whole} {habit}. How many {group} is that?",
            f"There are {total} {group}, of which {part}/{whole} {habit}. Work out how many these are.",
        )
    )
    return Task(
        "fraction",
        question,
        f"One part of {whole} is {total} / {whole} = {unit}. Taking {part} of them gives {unit} * {part} "
        f"= {unit * part}.\n"
        f"Answer: {unit * part}",
        f"Take the others: {total} - {unit * part} = {total - unit * part}, and that is the number asked for.\n"
        f"Answer: {total - unit * part}",
    )


def machines(draw: Draw) -> Task:
    """Output of one machine in an hour."""
    machines_, hours, rate = draw.between(2, 9), draw.between(3, 8), draw.between(6, 30)
    made = machines_ * hours * rate
    thing = draw.pick(("bottles", "toys", "screws", "envelopes"))
    question = draw.pick(
        (
            f"{machines_} equal machines make {made} {thing} in {hours} hours. How many does one machine "
            "make in one hour?",
            f"With {machines_} machines a factory produces {made} {thing} every {hours} hours. What is "
            "the hourly output of one?",
        )
    )
    return Task(
        "machines",
        question,
        f"One machine makes {made} / {machines_} = {made // machines_} {thing} in {hours} hours, "
        f"which is {made // machines_} / {hours} = {rate} an hour.\nAnswer: {rate}",
        f"One machine makes {made // machines_} {thing}, and that is its hourly output.\nAnswer: {made // machines_}",
    )


def saving(draw: Draw) -> Task:
    """Weeks until a goal."""
    name, weekly, weeks, start = draw.pick(NAMES), draw.between(4, 25), draw.between(4, 20), draw.between(5, 80)
    goal = start + weekly * weeks
    question = draw.pick(
        (
            f"{name} has ${start} and puts aside ${weekly} every week. After how many weeks does {name} have ${goal}?",
            f"Starting from ${start} and saving ${weekly} a week, how many weeks does {name} need to reach ${goal}?",
        )
    )
    return Task(
        "saving",
        question,
        f"Still missing are {goal} - {start} = {goal - start} dollars. "
        f"At {weekly} dollars a week that takes {goal - start} / {weekly} = {weeks} weeks.\nAnswer: {weeks}",
        f"At {weekly} dollars a week it takes {weeks + 3} weeks, counting a few more to be safe.\nAnswer: {weeks + 3}",
    )


def arrival(draw: Draw) -> Task:
    """Time of arrival."""
    hour, minute, lasts = draw.between(6, 19), draw.between(0, 59), draw.between(25, 190)
    end = hour * 60 + minute + lasts
    mover = draw.pick(("train", "film", "flight", "lesson", "concert"))
    verb = {"train": "leave", "flight": "leave"}.get(mover, "start")
    question = draw.pick(
        (
            f"A {mover} {verb}s at {hour:02d}:{minute:02d} and takes {lasts} minutes. When does it end?",
            f"At what time is a {mover} over that {verb}s at {hour:02d}:{minute:02d} and lasts {lasts} minutes?",
        )
    )
    wrong = end + 60
    return Task(
        "arrival",
        question,
        f"{lasts} minutes are {lasts // 60} h {lasts % 60} min. Counting on from {hour:02d}:{minute:02d} gives "
        f"{end // 60:02d}:{end % 60:02d}.\nAnswer: {end // 60:02d}:{end % 60:02d}",
        f"Counting on from {hour:02d}:{minute:02d} gives {wrong // 60:02d}:{wrong % 60:02d}.\n"
        f"Answer: {wrong // 60:02d}:{wrong % 60:02d}",
    )


def ratio(draw: Draw) -> Task:
    """Splitting by a ratio."""
    one, other = draw.pick(((1, 2), (2, 3), (3, 4), (1, 4), (3, 5), (2, 7), (5, 4)))
    unit = draw.between(3, 30)
    total = (one + other) * unit
    a, b = draw.pick((("red", "white paint"), ("sand", "gravel"), ("juice", "water"), ("flour", "sugar")))
    question = draw.pick(
        (
            f"{a.capitalize()} and {b} are mixed {one}:{other}. How much {a} is in {total} litres of the mix?",
            f"A mix holds {a} and {b} in the ratio {one} to {other}. There are {total} litres. How many "
            f"litres are {a}?",
        )
    )
    return Task(
        "ratio",
        question,
        f"There are {one} + {other} = {one + other} parts of {total} / {one + other} = {unit} litres. "
        f"{a.capitalize()} takes {one} of them: {one} * {unit} = {one * unit} litres.\nAnswer: {one * unit}",
        f"{a.capitalize()} takes {other} of the parts: {other} * {unit} = {other * unit} "
        f"litres.\nAnswer: {other * unit}",
    )


def minutes(draw: Draw) -> Task:
    """Hours and minutes in minutes."""
    hours, rest = draw.between(2, 14), draw.between(3, 57)
    question = draw.pick(
        (
            f"Convert {hours} hours and {rest} minutes to minutes.",
            f"A hike took {hours} hours {rest} minutes. How many minutes is that altogether?",
        )
    )
    return Task(
        "minutes",
        question,
        f"{hours} hours are {hours} * 60 = {hours * 60} minutes; {hours * 60} + {rest} = {hours * 60 + rest}.\n"
        f"Answer: {hours * 60 + rest}",
        f"{hours} hours are {hours} * 100 = {hours * 100} minutes, plus {rest}.\nAnswer: {hours * 100 + rest}",
    )


def boxes(draw: Draw) -> Task:
    """Several steps in a bakery."""
    trays, per_tray, size, filled = draw.between(4, 12), draw.between(8, 20), draw.between(4, 9), draw.between(3, 9)
    baked = trays * per_tray
    sold = baked - size * filled
    while sold <= 0:
        filled -= 1
        sold = baked - size * filled
    thing = draw.pick(("muffins", "rolls", "pretzels", "biscuits"))
    question = draw.pick(
        (
            f"A bakery bakes {trays} trays of {per_tray} {thing}. It sells {sold} and packs the rest in "
            f"boxes of {size}. "
            "How many boxes does it fill?",
            f"From {trays} trays with {per_tray} {thing} each, {sold} are sold. The others go into boxes "
            f"that hold {size}. "
            "How many boxes is that?",
        )
    )
    return Task(
        "boxes",
        question,
        f"Baked: {trays} * {per_tray} = {baked}. Left: {baked} - {sold} = {baked - sold}. "
        f"Boxes: {baked - sold} / {size} = {filled}.\nAnswer: {filled}",
        f"All {baked} go into boxes of {size}, which needs about {baked // size + 1} boxes.\nAnswer: "
        f"{baked // size + 1}",
    )


MAKERS: tuple[Maker, ...] = (
    change,
    discount,
    sharing,
    age,
    interest,
    fraction,
    machines,
    saving,
    arrival,
    ratio,
    minutes,
    boxes,
)
