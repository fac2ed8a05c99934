"""A drawing as SVG: text stays text, no fonts or styles from elsewhere, nothing that executes.

Everything is said by presentation attributes, so that a picture can be put into any page beside others.
"""

from __future__ import annotations

import math
from html import escape

from crate_dsl.errors import printable
from crate_dsl.pictures import palette
from crate_dsl.pictures.drawing import Drawing
from crate_dsl.pictures.layout import layout
from crate_dsl.pictures.measure import SCRIPT
from crate_dsl.pictures.notation import Run
from crate_dsl.pictures.scene import Disc, Label, Path, Rectangle, Shape
from crate_dsl.pictures.typeset import whole

SUFFIXES = (".svg",)
SANS = "Helvetica, Arial, 'Liberation Sans', sans-serif"
SERIF = "'Times New Roman', 'Liberation Serif', Times, serif"
RAISED, LOWERED = -0.38, 0.22  # of a script's baseline, in sizes of the text
HEAD = 7.0  # of an arrow


def write(drawing: Drawing) -> str:
    """The picture on a light ground of its own, with a title and a description for those who cannot see it."""
    scene = layout(drawing)
    size = f'width="{_number(scene.width)}" height="{_number(scene.height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_number(scene.width)} {_number(scene.height)}" '
        f'role="img" font-family="{SANS}" xml:space="preserve">',
        f"<title>{_text(drawing.title)}</title>",
        f"<desc>{_text(description(drawing))}</desc>",
        f'<rect {size} rx="12" fill="{palette.PAPER}"/>',
        *map(_shape, scene.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def description(drawing: Drawing) -> str:
    """The flow in words."""
    titles = [next((whole(text) for text in box.texts if text.role == "title"), box.nodes[0].label)
              for box in drawing.boxes]  # fmt: skip
    return f"{drawing.description}. From top to bottom: {'; '.join(titles)}."


def _text(text: str) -> str:
    """Escaped, without characters that XML cannot hold."""
    return escape(printable(text), quote=True)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _shape(shape: Shape) -> str:
    match shape:
        case Rectangle():
            return _rectangle(shape)
        case Disc():
            place = f'cx="{_number(shape.x)}" cy="{_number(shape.y)}" r="{_number(shape.radius)}"'
            return f'<circle {place} fill="{shape.fill}" stroke="{shape.stroke}" stroke-width="1.3"/>'
        case Path():
            return _path(shape)
        case Label():
            return _label(shape)


def _rectangle(shape: Rectangle) -> str:
    place = " ".join(f'{name}="{_number(getattr(shape, name))}"' for name in ("x", "y", "width", "height"))
    look = f'rx="{_number(shape.radius)}" fill="{shape.fill}" stroke="{shape.stroke}"'
    return f'<rect {place} {look} stroke-width="{_number(shape.thickness)}"{_dashes(shape.dashes)}/>'


def _dashes(dashes: str) -> str:
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _path(shape: Path) -> str:
    points = list(shape.points)
    head = _head(points, shape.stroke) if shape.arrow else ""
    if shape.arrow:  # the line ends inside the head
        points[-1] = _short_of(points[-2], points[-1], HEAD - 1)
    line = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    look = f'fill="none" stroke="{shape.stroke}" stroke-width="{_number(shape.thickness)}" stroke-linejoin="round"'
    return f'<polyline points="{line}" {look}{_dashes(shape.dashes)}/>{head}'


def _short_of(start: tuple[float, float], end: tuple[float, float], by: float) -> tuple[float, float]:
    length = math.dist(start, end) or 1.0
    return tuple(b - (b - a) / length * by for a, b in zip(start, end, strict=True))


def _head(points: list[tuple[float, float]], colour: str) -> str:
    (x, y), (bx, by) = points[-1], _short_of(points[-2], points[-1], HEAD)
    dx, dy = (x - bx) / HEAD * 3.5, (y - by) / HEAD * 3.5
    corners = ((x, y), (bx - dy, by + dx), (bx + dy, by - dx))
    return f'<polygon points="{" ".join(f"{_number(a)},{_number(b)}" for a, b in corners)}" fill="{colour}"/>'


# ---- text ----------------------------------------------------------------------------------------------------------


def _label(shape: Label) -> str:
    look = f'font-size="{_number(shape.size)}" fill="{shape.colour}"'
    look += f' font-family="{SERIF}"' if shape.serif else ""
    look += ' font-weight="bold"' if shape.bold else ""
    look += ' text-anchor="middle"' if shape.centred else ""
    inner, level = "", 0
    for run in shape.runs:
        inner += _run(run, level, shape.size)
        level = run.level
    text = f'<text x="{_number(shape.x)}" y="{_number(shape.y)}" {look}>{inner}</text>'
    return f"<g><title>{_text(shape.tip)}</title>{text}</g>" if shape.tip else text


def _run(run: Run, before: int, size: float) -> str:
    """A run with its style; a script moves the baseline, and what follows it moves it back."""
    shift = _shift(run.level, size) - _shift(before, size)
    look = [f'dy="{_number(shift)}"'] * bool(run.level != before)
    look += [f'font-size="{_number(size * SCRIPT)}"'] * bool(run.level)
    look += ['font-style="italic"'] * run.italic + ['font-weight="bold"'] * run.bold
    text = _text(run.text)
    return f"<tspan {' '.join(look)}>{text}</tspan>" if look else text


def _shift(level: int, size: float) -> float:
    """Rounded as it is written, so that the shifts of a line add up to nothing."""
    return round({1: RAISED, 0: 0.0, -1: LOWERED}[level] * size, 1)
