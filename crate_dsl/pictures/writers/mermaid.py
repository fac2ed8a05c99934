"""A drawing as a Mermaid flowchart, which GitHub, GitLab and many editors render from text.

Every text stands in quotes, and in them every character that Mermaid or Markdown gives a meaning is written by its
number (`#34;`), so that no name in a spec can end a label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from crate_dsl.errors import printable
from crate_dsl.pictures import palette
from crate_dsl.pictures.drawing import Drawing
from crate_dsl.pictures.outline import Entry, Group, numbered, outline

SUFFIXES = (".mmd", ".mermaid")
SHAPES = {"word": ("([", "])"), "norm": ("([", "])"), "operator": ("[", "]"), "sum": ("((", "))")}
LINKS = {"flow": "-->", "skip": "-.->", "training": "-.->"}
WIDE = '%%{init: {"flowchart": {"wrappingWidth": 640}}}%%'  # formulas stay on their lines
PLAIN = re.compile(r"[\w\s.,:()=+/'×…−·-]")  # what means nothing to Mermaid between quotes
LEADING = re.compile(r"^(\d+)\.|^[-+]")  # what Markdown takes for a list


def write(drawing: Drawing) -> str:
    """The flowchart from top to bottom."""
    names = numbered(drawing)
    lines = [WIDE, "flowchart TB", f"    accTitle: {bare(drawing.title)}", f"    accDescr: {bare(drawing.description)}"]
    for part in outline(drawing):
        lines += _part(part, names, 1)
    for arrow in drawing.arrows:
        label = f'|"{quoted(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    {names[arrow.source]} {LINKS[arrow.kind]}{label} {names[arrow.target]}")
    return "\n".join([*lines, *_styles(drawing, names)]) + "\n"


def _part(part: Group | Entry, names: dict[str, str], depth: int) -> Iterator[str]:
    indent = "    " * depth
    if isinstance(part, Group):
        own = f"g_{names[next(_entries(part)).node.name]}"
        yield f'{indent}subgraph {own}["{quoted(part.heading)}"]'
        yield f"{indent}    direction TB"
        for child in part.parts:
            yield from _part(child, names, depth + 1)
        yield f"{indent}end"
        yield f"{indent}style {own} fill:{palette.PANEL},stroke:{palette.SOFT},color:{palette.INK}"
    else:
        left, right = SHAPES[part.node.kind]
        yield f'{indent}{names[part.node.name]}{left}"{_label(part.lines)}"{right}'


def _entries(group: Group) -> Iterator[Entry]:
    for part in group.parts:
        yield from _entries(part) if isinstance(part, Group) else (part,)


def _label(lines: tuple[str, ...]) -> str:
    return "<br/>".join(map(quoted, lines))


def quoted(text: str) -> str:
    """Text between quotes: letters, digits and harmless signs as they are, everything else by its number."""
    text = printable(text)
    start = LEADING.match(text)
    escaped = "".join(c if PLAIN.match(c) or ord(c) > 127 else f"#{ord(c)};" for c in text)
    if start is None:
        return escaped
    return f"{start[1]}#46;{escaped[start.end() :]}" if start[1] else f"#{ord(text[0])};{escaped[1:]}"


def bare(text: str) -> str:
    """Text outside of quotes, on one line: what is not harmless becomes a blank."""
    text = printable(text)
    return " ".join("".join(c if PLAIN.match(c) else " " for c in text).split()) or "network"


def _styles(drawing: Drawing, names: dict[str, str]) -> Iterator[str]:
    """The colour of every verb on its operators."""
    yield f"    classDef default fill:{palette.PAPER},stroke:{palette.LINE},color:{palette.INK}"
    verbs: dict[str, list[str]] = {}
    for box in drawing.boxes:
        nodes = [names[node.name] for node in box.nodes if node.kind == "operator" and box.accent]
        verbs.setdefault(palette.verb(box.accent), []).extend(nodes)
    for number, (colour, nodes) in enumerate((c, n) for c, n in verbs.items() if n):
        yield f"    classDef v{number} fill:{palette.tint(colour)},stroke:{colour},color:{palette.INK}"
        yield f"    class {','.join(nodes)} v{number}"
