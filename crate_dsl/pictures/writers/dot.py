"""A drawing in DOT, for Graphviz and everything that reads its language; blocks are clusters."""

from __future__ import annotations

from collections.abc import Iterator

from crate_dsl.errors import printable
from crate_dsl.pictures import palette
from crate_dsl.pictures.drawing import Drawing
from crate_dsl.pictures.outline import Entry, Group, numbered, outline

SUFFIXES = (".dot", ".gv")
SHAPES = {
    "word": 'shape="box", style="rounded,filled"',
    "norm": 'shape="box", style="rounded,filled"',
    "operator": 'shape="box", style="filled"',
    "sum": 'shape="circle", style="filled", margin="0.02"',
}
EDGES = {"flow": "", "skip": 'style="dashed", constraint="false"', "training": 'style="dotted"'}


def write(drawing: Drawing) -> str:
    """The graph from top to bottom; every name and text is a quoted string."""
    names = numbered(drawing)
    lines = [
        f"digraph {quoted(drawing.title)} {{",
        '    graph [rankdir="TB", fontname="Helvetica", labelloc="t", labeljust="l", '
        f"label={_label((drawing.title, drawing.description, *drawing.notes))}];",
        '    node [fontname="Helvetica", fontsize="11"];',
        '    edge [fontname="Helvetica", fontsize="10"];',
    ]
    for part in outline(drawing):
        lines += _part(part, names, 1)
    for arrow in drawing.arrows:
        label = f"label={quoted(arrow.label)}" if arrow.label else ""
        attributes = ", ".join(filter(None, (label, EDGES[arrow.kind])))
        lines.append(f"    {names[arrow.source]} -> {names[arrow.target]}{f' [{attributes}]' if attributes else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def _part(part: Group | Entry, names: dict[str, str], depth: int) -> Iterator[str]:
    indent = "    " * depth
    if isinstance(part, Entry):
        colour = {"operator": palette.verb(part.accent), "norm": palette.SKY}.get(part.node.kind, palette.LINE)
        look = f'{SHAPES[part.node.kind]}, color="{colour}", fillcolor="{palette.tint(colour)}"'
        tip = f", tooltip={quoted(part.tip)}" if part.tip else ""
        yield f"{indent}{names[part.node.name]} [label={_label(part.lines)}, {look}{tip}];"
        return
    yield f"{indent}subgraph {quoted(f'cluster_{part.name}')} {{"
    yield f"{indent}    label={quoted(part.heading)};"
    for child in part.parts:
        yield from _part(child, names, depth + 1)
    yield f"{indent}}}"


def quoted(text: str) -> str:
    """A string of DOT: quotes and backslashes escaped, and the ampersand, which would start an entity."""
    text = printable(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{escaped}"'


def _label(lines: tuple[str, ...]) -> str:
    """Lines one below another, each from the left where there are several."""
    lines = tuple(line for line in lines if line)
    if len(lines) == 1:
        return quoted(lines[0])
    return '"' + "".join(quoted(line)[1:-1] + "\\l" for line in lines) + '"'
