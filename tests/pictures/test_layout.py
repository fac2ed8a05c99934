"""Where things stand on a page: nothing overlaps, nothing is cut off, nothing leaves its box."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from crate_dsl.pictures.drawing import Arrow, Box, Drawing, Node, Tag, Text
from crate_dsl.pictures.layout import layout
from crate_dsl.pictures.measure import width
from crate_dsl.pictures.scene import Disc, Label, Rectangle, Scene
from tests.pictures.drawings import CASES, NAMES, SPECS, drawing, hostile

Place = tuple[float, float, float, float]  # left, top, right, bottom


def of_label(label: Label) -> Place:
    wide = width(label.runs, label.size, label.serif, label.bold)
    left = label.x - wide / 2 if label.centred else label.x
    return left, label.y - 0.7 * label.size, left + wide, label.y + 0.22 * label.size


def of_rectangle(shape: Rectangle) -> Place:
    return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height


def inside(inner: Place, outer: Place) -> bool:
    return all(a >= b for a, b in zip(inner[:2], outer[:2], strict=True)) and all(
        a <= b for a, b in zip(inner[2:], outer[2:], strict=True)
    )


def apart(one: Place, other: Place) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def faults(scene: Scene) -> list[str]:
    """Texts that leave the page or meet, pills and boxes that meet without one holding the other."""
    labels = [shape for shape in scene.shapes if isinstance(shape, Label)]
    found = [f"outside: {x.runs}" for x in labels if not inside(of_label(x), (0, 0, scene.width, scene.height))]
    pairs = ((a, b) for a, b in combinations(labels, 2) if not apart(of_label(a), of_label(b)))
    found += [f"meet: {a.runs} and {b.runs}" for a, b in pairs]
    shapes = [s for s in scene.shapes if isinstance(s, Rectangle) and s.role]
    for a, b in combinations(shapes, 2):
        places = of_rectangle(a), of_rectangle(b)
        if not (apart(*places) or inside(*places) or inside(*reversed(places))):
            found.append(f"cross: {a.role} and {b.role}")
    for label in labels:
        crossed = [s for s in shapes if not apart(of_label(label), of_rectangle(s))]
        found += [f"leaves a {s.role}: {label.runs}" for s in crossed if not inside(of_label(label), of_rectangle(s))]
    discs = [s for s in scene.shapes if isinstance(s, Disc) and s.radius > 5]
    around = [((d.x - d.radius, d.y - d.radius, d.x + d.radius, d.y + d.radius), x) for d in discs for x in labels]
    return found + [f"meets a sum: {x.runs}" for place, x in around if not apart(place, of_label(x))]


@pytest.mark.parametrize(("path", "preset"), CASES, ids=NAMES)
def test_nothing_overlaps(path: Path, preset: str | None) -> None:
    assert faults(layout(drawing(path, preset))) == []


def test_hostile_texts_stay_in_their_places() -> None:
    assert faults(layout(hostile())) == []


def test_faults_are_seen() -> None:
    scene = layout(drawing(SPECS[0]))
    label = next(shape for shape in scene.shapes if isinstance(shape, Label) and shape.serif)
    pill = next(shape for shape in scene.shapes if isinstance(shape, Rectangle) and shape.role == "pill")
    assert faults(replace(scene, shapes=(*scene.shapes, replace(label, x=label.x + 5, y=label.y + 3))))
    assert faults(replace(scene, shapes=(*scene.shapes, replace(label, x=scene.width - 20, y=3))))
    assert faults(replace(scene, shapes=(*scene.shapes, replace(pill, y=pill.y + 10))))


def box(name: str, *texts: Text, label: str = "x", tags: tuple[Tag, ...] = (), kind: str = "step") -> Box:
    nodes = (Node(f"{name}.n", "norm", "norm"), Node(name, label, "operator"), Node(f"{name}.s", "+", "sum"))
    return Box(kind, nodes, texts, tags, "an unheard-of verb")


def test_words_that_are_not_there_yet_find_their_place() -> None:
    """Long names, formulas of many summands, many tags, verbs without a colour: as other steps may bring them."""
    long = Text("operator", "", ("Z^{+} = Z", *(rf"+ \alpha_{{{n}}} U_{{k}} \mathrm{{gate}}(Z)" for n in range(60))))
    tags = tuple(Tag("choice", f"site{n} ~ some_rule(with, arguments)", "why") for n in range(12))
    boxes = (
        box("a", Text("title", "t" * 900), long, Text("fact", "learned: " + "matrix, " * 200), tags=tags),
        box("b", label="a_verb_of_more_letters_than_any_pill_holds"),
        box("c", Text("title", "loss a + b"), kind="loss"),
    )
    arrows = (
        Arrow("a.s", "b.n", "1,048,576 × 1,048,576"),
        Arrow("b.s", "c.n", "", "training"),
        Arrow("a.n", "a.s", "normed", "skip"),
    )
    scene = layout(Drawing("Name" * 60, "word " * 300, ("note",), boxes, arrows, tags[:1], ("foot",)))
    assert faults(scene) == []
    operator = [shape for shape in scene.shapes if isinstance(shape, Label) and "gate" in shape.tip]
    assert len(operator) == 6 and operator[-1].runs[-1].text.endswith("…") and operator[0].tip.count("gate") == 60
