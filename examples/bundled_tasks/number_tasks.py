"""Numbers, shapes and chance, in words. Numbers stand in the question in the order the solution needs them."""

from __future__ import annotations

from math import gcd

from examples.bundled_tasks.draw import Draw, Maker, Task


def distance(draw: Draw) -> Task:
    """Speed times time."""
    speed, hours = draw.between(4, 24) * 5, draw.between(2, 9)
    mover = draw.pick(("train", "bus", "cyclist", "ferry", "delivery van"))
    question = draw.pick(
        (
            f"A {mover} travels at {speed} km/h for {hours} hours without stopping. How far does it get?",
            f"At a steady {speed} kilometres an hour, how many kilometres does a {mover} cover in {hours} hours?",
            f"What distance does a {mover} going {speed} km per hour travel in {hours} h?",
        )
    )
    return Task(
        "distance",
        question,
        f"Distance is speed times time: {speed} * {hours} = {speed * hours} km.\nAnswer: {speed * hours}",
        f"Divide the speed by the time: that makes {speed // hours} km.\nAnswer: {speed // hours}",
    )


def average(draw: Draw) -> Task:
    """Mean of four numbers."""
    values = [draw.between(5, 60) for _ in range(4)]
    values[3] += -sum(values) % 4
    total, mean = sum(values), sum(values) // 4
    listed = f"{values[0]}, {values[1]}, {values[2]} and {values[3]}"
    question = draw.pick(
        (
            f"Find the average of {listed}.",
            f"On four days a café served {listed} guests. How many was that on average?",
            f"A student scored {listed} points in four tests. What is the mean score?",
        )
    )
    written = " + ".join(map(str, values))
    return Task(
        "average",
        question,
        f"Add them up: {written} = {total}. Divide by how many there are: {total} / 4 = {mean}.\nAnswer: {mean}",
        f"The numbers add up to {total}; halving gives {total // 2}.\nAnswer: {total // 2}",
    )


def perimeter(draw: Draw) -> Task:
    """Around a rectangle."""
    length, width = draw.between(12, 60), draw.between(3, 11)
    place = draw.pick(("garden", "field", "swimming pool", "playground", "car park"))
    question = draw.pick(
        (
            f"A rectangular {place} is {length} m long and {width} m wide. How long is a fence around it?",
            f"What is the perimeter of a {place} shaped like a rectangle of {length} by {width} metres?",
        )
    )
    half = length + width
    return Task(
        "perimeter",
        question,
        f"Length plus width is {length} + {width} = {half} m. Twice that is 2 * {half} = {2 * half} "
        f"m.\nAnswer: {2 * half}",
        f"Length times width is {length} * {width} = {length * width} m.\nAnswer: {length * width}",
    )


def triangle(draw: Draw) -> Task:
    """Area of a triangle."""
    base, height = 2 * draw.between(2, 20), draw.between(3, 25)
    question = draw.pick(
        (
            f"Compute the area of a triangle with a base of {base} cm and a height of {height} cm.",
            f"A triangular sail has a base of {base} m and is {height} m high. What is its area in square metres?",
        )
    )
    return Task(
        "triangle",
        question,
        f"The area is half of base times height: {base} * {height} / 2 = {base * height // 2}.\nAnswer: "
        f"{base * height // 2}",
        f"The area is base times height: {base * height}.\nAnswer: {base * height}",
    )


def equation(draw: Draw) -> Task:
    """A linear equation."""
    factor, solution, shift = draw.between(2, 12), draw.between(2, 20), draw.between(1, 40)
    right = factor * solution + shift
    question = draw.pick(
        (
            f"Solve for x: {factor}x + {shift} = {right}.",
            f"If {factor} times a number plus {shift} equals {right}, what is the number?",
        )
    )
    return Task(
        "equation",
        question,
        f"Subtract {shift} on both sides: {right} - {shift} = {right - shift}. "
        f"Divide by {factor}: {right - shift} / {factor} = {solution}.\nAnswer: {solution}",
        f"Subtract {factor} and then {shift} from {right}: what is left is {right - factor - shift}.\n"
        f"Answer: {right - factor - shift}",
    )


def sequence(draw: Draw) -> Task:
    """A term of an arithmetic sequence."""
    first, step, place = draw.between(1, 40), draw.between(3, 12), draw.between(8, 40)
    value = first + step * (place - 1)
    question = draw.pick(
        (
            f"A sequence starts at {first} and grows by {step} each time. What is term number {place}?",
            f"The first row of a theatre has {first} seats and each further row has {step} more. How "
            f"many seats has row {place}?",
        )
    )
    return Task(
        "sequence",
        question,
        f"From the first to term {place} there are {place} - 1 = {place - 1} steps: "
        f"{place - 1} * {step} = {step * (place - 1)}, and {first} + {step * (place - 1)} = "
        f"{value}.\nAnswer: {value}",
        f"There are {place} steps of {step}, so it is {first + step * place}.\nAnswer: {first + step * place}",
    )


def divisible(draw: Draw) -> Task:
    """Divisibility, answered by yes or no."""
    divisor, quotient, rest = draw.between(3, 13), draw.between(12, 60), draw.pick((0, 0, 1, 2))
    number = divisor * quotient + rest
    question = draw.pick(
        (f"Is {number} divisible by {divisor}?", f"Can {number} chairs be put into full rows of {divisor} each?")
    )
    multiple = f"{divisor} * {quotient} = {divisor * quotient}"
    yes = f"Yes. {multiple}, so nothing is left over.\nAnswer: yes"
    no = f"No. {multiple}, which leaves a remainder.\nAnswer: no"
    right = f"No. {multiple}, which leaves {number} - {divisor * quotient} = {rest}.\nAnswer: no" if rest else yes
    return Task("divisible", question, right, yes if rest else no)


def gauss(draw: Draw) -> Task:
    """Sum of the first whole numbers."""
    last = draw.between(12, 120)
    total = last * (last + 1) // 2
    question = draw.pick(
        (
            f"What is the sum of all whole numbers from 1 to {last}?",
            f"Numbers 1, 2, 3 and so on up to {last} are added. What is the total?",
        )
    )
    return Task(
        "gauss",
        question,
        f"Use n(n + 1)/2 with n = {last}: {last} * {last + 1} / 2 = {total}.\nAnswer: {total}",
        f"Use n(n - 1)/2 with n = {last}, which gives {last * (last - 1) // 2}.\nAnswer: {last * (last - 1) // 2}",
    )


def chance(draw: Draw) -> Task:
    """A probability as a reduced fraction."""
    red, blue = draw.between(2, 12), draw.between(13, 20)
    total = red + blue
    shared = gcd(red, total)
    other = gcd(blue, total)
    question = draw.pick(
        (
            f"A bag holds {red} red and {blue} blue balls. What is the probability of drawing a red one? "
            "Give a reduced fraction.",
            f"In a drawer are {red} red socks and {blue} blue socks. One is taken blindly. "
            "How likely is a red one, as a fraction in lowest terms?",
        )
    )
    return Task(
        "chance",
        question,
        f"There are {red} + {blue} = {total} in all and {red} of them are red: {red}/{total}, "
        f"reduced {red // shared}/{total // shared}.\nAnswer: {red // shared}/{total // shared}",
        f"Of {total} in all, {blue} count.\nAnswer: {blue // other}/{total // other}",
    )


def divisor(draw: Draw) -> Task:
    """Greatest common divisor."""
    shared = draw.between(3, 18)
    one, other = draw.pick(((2, 3), (3, 4), (3, 5), (4, 5), (4, 7), (5, 6), (5, 8), (7, 9)))
    a, b = one * shared, other * shared
    question = draw.pick(
        (
            f"What is the greatest common divisor of {a} and {b}?",
            f"Ribbons of {a} cm and {b} cm are to be cut into equal pieces as long as possible with "
            "nothing left. How long is a piece?",
        )
    )
    return Task(
        "divisor",
        question,
        f"{a} = {one} * {shared} and {b} = {other} * {shared}, and {one} and {other} share no "
        f"factor.\nAnswer: {shared}",
        f"The smallest number that both divide is {one * other * shared}, so that is it.\nAnswer: "
        f"{one * other * shared}",
    )


MAKERS: tuple[Maker, ...] = (
    distance,
    average,
    perimeter,
    triangle,
    equation,
    sequence,
    divisible,
    gauss,
    chance,
    divisor,
)
