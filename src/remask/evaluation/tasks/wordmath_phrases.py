"""The words of `wordmath`. {a} is the person defined, {b} and {c} the ones named, {n} a number, {i} the noun."""

NAMES = (
    "Finn", "Rae", "Bo", "Ann", "Zed", "Mia", "Leo", "Ivy", "Max", "Zoe", "Sam", "Eva", "Tom", "Una", "Kai", "Lia", "Gus", "Nia", "Roy", "Amy",
    "Hal", "Joy", "Ned", "Pia", "Ron", "Sue", "Ted", "Vera", "Walt", "Xena", "Yuri", "Abel", "Beth", "Carl", "Dora", "Emil", "Faye", "Gina", "Hugo", "Iris",
)  # fmt: skip

ITEM_SETS = (
    ("apples", "pears", "plums"),
    ("coins", "stamps", "medals"),
    ("books", "maps", "comics"),
    ("pens", "pencils", "brushes"),
    ("cups", "plates", "spoons"),
    ("shells", "pebbles", "feathers"),
    ("cards", "dice", "marbles"),
    ("roses", "tulips", "lilies"),
    ("hens", "ducks", "geese"),
    ("nails", "screws", "bolts"),
    ("hats", "scarves", "gloves"),
    ("loaves", "buns", "cakes"),
)

PHRASES: dict[str, tuple[str, ...]] = {
    "constant": (
        "{a} has {n} {i}.",
        "There are {n} {i} with {a}.",
        "{a} keeps exactly {n} {i}.",
        "We counted {n} {i} for {a}.",
    ),
    "more": (
        "{a} has {n} more {i} than {b}.",
        "{a} has as many {i} as {b} plus {n}.",
        "Add {n} to the {i} of {b} and you get those of {a}.",
        "{b} would need {n} more {i} to match {a}.",
    ),
    "fewer": (
        "{a} has {n} fewer {i} than {b}.",
        "{a} has as many {i} as {b} less {n}.",
        "Take {n} from the {i} of {b} and you get those of {a}.",
        "{a} would need {n} more {i} to match {b}.",
    ),
    "times": (
        "{a} has {n} times as many {i} as {b}.",
        "{a} has the {i} of {b} times {n}.",
        "For every one of the {i} of {b}, {a} has {n}.",
        "Multiply the {i} of {b} by {n} and you get those of {a}.",
    ),
    "sum": (
        "{a} has as many {i} as {b} and {c} together.",
        "{a} has the {i} of {b} added to those of {c}.",
        "Put the {i} of {b} and {c} together and you get as many as {a} has.",
        "The {i} of {b} plus those of {c} are as many as {a} has.",
    ),
    "difference": (
        "{a} has as many {i} as {b} has beyond {c}.",
        "{a} has the {i} of {b} minus those of {c}.",
        "Take the {i} of {c} from those of {b} and you get those of {a}.",
        "{b} has more {i} than {c}, and {a} has just the gap.",
    ),
}
"""At least four ways to say each kind of definition."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "constant": ("In all, {a} owns {n} {i}.",),
    "more": ("The {i} of {a} outnumber those of {b} by {n}.",),
    "fewer": ("The {i} of {a} fall short of those of {b} by {n}.",),
    "times": ("If {b} had {n} times the {i}, it would equal those of {a}.",),
    "sum": ("Joining the {i} of {b} with those of {c} gives what {a} owns.",),
    "difference": ("What {b} owns in {i} above {c} is what {a} owns.",),
}
"""Never trained on: `wording="new"`."""

QUESTIONS = (
    "How many {i} does {a} have?",
    "What is the number of {i} of {a}?",
    "Find how many {i} {a} has.",
    "How many {i} are there with {a}?",
)
