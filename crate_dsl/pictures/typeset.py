"""Texts and tags set on lines that fit their room, with the whole of what was cut or abbreviated as a tip."""

from __future__ import annotations

from dataclasses import dataclass

from crate_dsl.pictures import palette
from crate_dsl.pictures.drawing import Tag, Text
from crate_dsl.pictures.measure import cut, width, wrapped
from crate_dsl.pictures.notation import Run, Runs, formula, unicode, words
from crate_dsl.pictures.scene import Label, Rectangle, Shape


@dataclass(frozen=True)
class Style:
    """How texts of one role are set: size, height of a line, colour, at most so many lines."""

    size: float
    line: float
    colour: str
    most: int
    serif: bool = False
    bold: bool = False


STYLES = {
    "title": Style(14.5, 21, palette.INK, 2, bold=True),
    "objective": Style(14.5, 21, palette.SOFT, 3, serif=True),
    "operator": Style(17.5, 27, palette.INK, 6, serif=True),
    "where": Style(15, 22, palette.SOFT, 4, serif=True),
    "fact": Style(12.5, 18, palette.SOFT, 4),
    "cost": Style(12.5, 18, palette.INK, 2),
    "heading": Style(23, 30, palette.INK, 2, bold=True),
    "description": Style(14, 20, palette.SOFT, 3),
    "note": Style(12.5, 18, palette.SOFT, 3),
}
INSET = 18.0  # of the second line of a formula and those below it
LONGEST = 2000  # characters of one text that are looked at


def runs_of(text: Text) -> list[Runs]:
    """The pieces of a text, between which a line may end."""
    pieces = [formula(piece) for piece in text.formula]
    lead = words(text.words[:LONGEST]) if text.words else ()
    return [(*lead, *pieces[0]), *pieces[1:]] if pieces else [lead]


def whole(text: Text) -> str:
    """All of a text as bare characters."""
    return " ".join(unicode(piece) for piece in runs_of(text) if piece).strip()


def set_text(text: Text, x: float, y: float, room: float) -> tuple[list[Label], float]:
    """The lines of a text from (x, y) downwards, and how high they are together."""
    style = STYLES[text.role]
    lines = _lines(text, style, room)
    cut_off = len(lines) > style.most
    if cut_off:
        last = cut((*lines[style.most - 1], Run(" …")), room, style.size, style.serif, style.bold)
        lines = [*lines[: style.most - 1], last]
    tip = whole(text) if text.formula or cut_off else ""
    labels = []
    for number, line in enumerate(lines):
        left = x + (INSET if number and text.formula else 0.0)
        baseline = y + (number + 0.72) * style.line
        labels.append(Label(left, baseline, line, style.size, style.colour, style.serif, style.bold, tip=tip))
    return labels, len(lines) * style.line


def _lines(text: Text, style: Style, room: float) -> list[Runs]:
    """Lines of a formula from the second on stand further in."""
    inner = room - INSET if text.formula else room
    pieces = runs_of(text)
    whole_line = wrapped(pieces, room, style.size, style.serif, style.bold)
    return whole_line if len(whole_line) == 1 else wrapped(pieces, inner, style.size, style.serif, style.bold)


def set_tags(tags: tuple[Tag, ...], x: float, y: float, room: float) -> tuple[list[Shape], float]:
    """Tags in rows, and how high they are together."""
    shapes: list[Shape] = []
    left, top = x, y + 3
    for tag in tags:
        runs = cut(words(tag.words), room - 16, 12)
        wide = width(runs, 12) + 16
        if left > x and left + wide > x + room:
            left, top = x, top + 25
        outline, dashes = palette.TAGS[tag.kind]
        shapes.append(Rectangle(left, top, wide, 20, palette.tint(outline, 0.08), outline, 10, 1.2, dashes, role="tag"))
        tip = f"{tag.kind}: {tag.why}"
        shapes.append(Label(left + wide / 2, top + 14, runs, 12, palette.INK, centred=True, tip=tip))
        left += wide + 7
    return shapes, top + 27 - y if tags else 0.0
