"""Where everything stands on a page: one flow from top to bottom on the left, what is said about it on the right.

    |  header                                        |
    |  (input)                                       |
    |  +- frame: encoder x 12 ---------------------+ |
    |  | +--------------------------------------+  | |
    |  | |  .--.    title                       |  | |
    |  | |  | norm  formulas                    |  | |
    |  | |  | verb  tags                        |  | |
    |  | |  '-(+)   learned, cost               |  | |

Widths of text are estimated (`measure.py`): no font is read, so a picture is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crate_dsl.pictures import palette
from crate_dsl.pictures.drawing import Arrow, Box, Drawing, Frame, Node, Tag, Text
from crate_dsl.pictures.measure import cut, width
from crate_dsl.pictures.notation import words
from crate_dsl.pictures.scene import Disc, Label, Path, Rectangle, Scene, Shape
from crate_dsl.pictures.typeset import set_tags, set_text

PAGE, EDGE = 900.0, 24.0
LEFT, RIGHT = 40.0, 860.0  # of boxes
LANE = 128.0  # the flow
COLUMN = 232.0  # the texts
ROOM = RIGHT - 18 - COLUMN
GAP = 38.0  # between boxes, where an arrow has its label
PILL, PILL_GAP, PILL_ROOM = 24.0, 20.0, 152.0
SKIP = LANE - 66
HEAD = 34.0  # of a frame
BARE = {"input", "norm", "output", "loss"}  # boxes that are their pill alone


@dataclass
class Page:
    """Grows downwards; `y` is how far it has come."""

    y: float = EDGE
    shapes: list[Shape] = field(default_factory=list)
    tops: dict[str, float] = field(default_factory=dict)  # of nodes
    bottoms: dict[str, float] = field(default_factory=dict)
    entries: dict[str, float] = field(default_factory=dict)  # where the flow enters the box of a node
    gaps: dict[str, float] = field(default_factory=dict)  # where the label of an arrow to a node stands

    def text(self, text: Text, x: float = COLUMN, room: float = ROOM) -> None:
        labels, high = set_text(text, x, self.y, room)
        self.shapes += labels
        self.y += high

    def tags(self, tags: tuple[Tag, ...], x: float = COLUMN, room: float = ROOM) -> None:
        shapes, high = set_tags(tags, x, self.y, room)
        self.shapes += shapes
        self.y += high

    # ---- boxes ----------------------------------------------------------------------------------------------------

    def box(self, box: Box) -> None:
        """A box with its nodes on the flow and its texts beside them."""
        top, place = self.y, len(self.shapes)
        bare = box.kind in BARE
        if not bare:
            self.y += 13
        elif len(box.texts) == 1:
            self.y += 3
        self.texts(box)
        skip = any(node.kind == "sum" for node in box.nodes)
        padding = 0.0 if bare else 28.0 if skip else 18.0
        lane = 2 * padding + len(box.nodes) * (PILL + PILL_GAP) - PILL_GAP
        self.y = max(self.y + (0 if bare else 11), top + lane)
        if not bare:
            colour = palette.verb(box.accent) if box.accent else palette.LINE
            outline = Rectangle(LEFT, top, RIGHT - LEFT, self.y - top, palette.PAPER, colour, 8, 1.3, role="box")
            self.shapes[place:place] = [outline, Rectangle(LEFT, top + 8, 5, self.y - top - 16, colour, colour, 0)]
        start = top + (self.y - top - lane) / 2 + padding
        for number, node in enumerate(box.nodes):
            self.node(node, start + number * (PILL + PILL_GAP), box.accent)
            self.entries[node.name] = top

    def texts(self, box: Box) -> None:
        """The texts, with the tags between formulas and facts."""
        late = [text for text in box.texts if text.role in ("fact", "cost")]
        for text in box.texts:
            if text not in late:
                self.text(text)
        self.tags(box.tags)
        for text in late:
            self.text(text)

    def node(self, node: Node, y: float, accent: str) -> None:
        """A pill on the flow; a sum is a disc."""
        middle = y + PILL / 2
        if node.kind == "sum":
            self.tops[node.name], self.bottoms[node.name] = middle - 9, middle + 9
            cross = [
                Path(((LANE - 5, middle), (LANE + 5, middle)), palette.INK),
                Path(((LANE, middle - 5), (LANE, middle + 5)), palette.INK),
            ]
            self.shapes += [Disc(LANE, middle, 9, palette.PAPER, palette.INK), *cross]
            return
        self.tops[node.name], self.bottoms[node.name] = y, y + PILL
        colour = {"operator": palette.verb(accent), "norm": palette.SKY}.get(node.kind, palette.LINE)
        runs = cut(words(node.label), PILL_ROOM - 20, 12.5, bold=node.kind == "operator")
        wide = max(92.0, width(runs, 12.5, bold=node.kind == "operator") + 20)
        pill = Rectangle(LANE - wide / 2, y, wide, PILL, palette.tint(colour, 0.22), colour, 12, 1.3, role="pill")
        label = Label(LANE, middle + 4.5, runs, 12.5, palette.INK, bold=node.kind == "operator", centred=True,
                      tip=node.label)  # fmt: skip
        self.shapes += [pill, label]

    def frame(self, frame: Frame) -> None:
        """A block around its steps; where it is repeated, edges of further layers show behind it."""
        top, place = self.y, len(self.shapes)
        self.y += 12
        layers = f"{frame.title} × {frame.repeat} layers" if frame.repeat > 1 else f"{frame.title}, 1 layer"
        self.text(Text("title", layers))
        for note in frame.notes:
            self.text(Text("fact", note))
        self.tags(frame.tags)
        self.y += 14
        self.boxes(frame.boxes)
        self.y += 16
        back = [Rectangle(EDGE + shift, top + shift, PAGE - 2 * EDGE, self.y - top, palette.PANEL, palette.LINE, 10)
                for shift in ((9, 4.5) if frame.repeat > 1 else ())]  # fmt: skip
        own = Rectangle(EDGE, top, PAGE - 2 * EDGE, self.y - top, palette.PANEL, palette.SOFT, 10, 1.3, role="frame")
        self.shapes[place:place] = [*back, own]
        self.y += 9 if frame.repeat > 1 else 0

    def boxes(self, boxes: tuple[Box | Frame, ...]) -> None:
        for number, item in enumerate(boxes):
            first = item.boxes[0] if isinstance(item, Frame) else item
            self.gaps[first.nodes[0].name] = self.y + GAP / 2 if number else self.gaps.get(first.nodes[0].name, self.y)
            self.y += GAP if number else 0
            if isinstance(item, Frame):
                self.frame(item)
            else:
                self.box(item)

    # ---- arrows ---------------------------------------------------------------------------------------------------

    def arrow(self, arrow: Arrow) -> None:
        if arrow.kind == "skip":
            return self.skip(arrow)
        dashes = "4 4" if arrow.kind == "training" else ""
        ends = ((LANE, self.bottoms[arrow.source]), (LANE, self.tops[arrow.target]))
        self.shapes.append(Path(ends, palette.INK, True, dashes=dashes))
        if arrow.label:
            label = words(arrow.label)
            self.shapes.append(Label(LANE + 9, self.gaps[arrow.target] + 4, label, 12.5, palette.INK))

    def skip(self, arrow: Arrow) -> None:
        """Out of the flow before or behind the norm, down on its left, back into the sum."""
        sum_top = self.tops[arrow.target]
        if arrow.label == "raw":
            start = self.entries[arrow.target] + 12
        else:
            start = self.bottoms[arrow.source] + 5
        end = sum_top + 9
        points = ((LANE, start), (SKIP, start), (SKIP, end), (LANE - 9, end))
        self.shapes += [Disc(LANE, start, 2.5, palette.INK, palette.INK), Path(points, palette.INK, True)]
        self.shapes.append(Label(LANE + 14, end + 4.5, words(f"skip: {arrow.label}"), 11.5, palette.SOFT))


def layout(drawing: Drawing) -> Scene:
    """The scene of a drawing, as high as it must be."""
    page = Page()
    wide = PAGE - 2 * EDGE
    page.text(Text("heading", drawing.title), EDGE, wide)
    if drawing.description:
        page.text(Text("description", drawing.description), EDGE, wide)
    for note in drawing.notes:
        page.text(Text("note", note), EDGE, wide)
    page.y += 16
    page.boxes(drawing.items)
    for arrow in drawing.arrows:
        page.arrow(arrow)
    page.y += 20
    page.tags(drawing.legend, EDGE, wide)
    for note in drawing.footnotes:
        page.text(Text("note", note), EDGE, wide)
    return Scene(PAGE, page.y + EDGE - 8, tuple(page.shapes))
