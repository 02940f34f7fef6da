"""Where the texts of a drawing lie, without a browser."""

from itertools import combinations

# Of the classes of the style sheet: height of the letters, and their width as wide fonts have it.
SIZES = {
    "tick": (11, 6.2),
    "title": (11.5, 6.4),
    "note": (12, 7.2),
    "head": (12, 7.2),
    "layer": (10.5, 6.3),
}
SHARES = {"start": 0.0, "middle": 0.5, "end": 1.0}


def boxes(drawing):
    """The box of every text of a chart: left, top, right, bottom, and what it says."""
    found = []
    for each in drawing.iter("text"):
        height, letter = SIZES.get(each.get("class"), (11, 6.2))
        width = letter * len(each.text)
        left = float(each.get("x")) - SHARES[each.get("text-anchor")] * width
        top = float(each.get("y")) - height / 2
        found.append((left, top, left + width, top + height, each.text))
    return found


def overlapping(drawing):
    """The pairs of texts that lie on one another."""
    return [
        (one[4], two[4])
        for one, two in combinations(boxes(drawing), 2)
        if one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
    ]


def outside(drawing):
    """The texts that leave a chart at its sides."""
    width = float(drawing.get("viewBox").split()[2])
    return [text for left, _, right, _, text in boxes(drawing) if left < -1 or right > width + 1]
