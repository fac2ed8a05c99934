"""A drawing as an outline, for formats that place things themselves: what every node says, in lines of bare text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crate_dsl.pictures.drawing import Box, Drawing, Frame, Node, Tag, Text
from crate_dsl.pictures.typeset import whole

LONGEST = 110  # characters of a line


@dataclass(frozen=True)
class Entry:
    """A node with all that is said of its box, or with its own label alone."""

    node: Node
    lines: tuple[str, ...]
    accent: str
    tip: str = ""


@dataclass(frozen=True)
class Group:
    """A frame, or a box of several words: its heading, on one line, and what it holds."""

    name: str
    heading: str
    parts: tuple[Group | Entry, ...]


def outline(drawing: Drawing) -> list[Group | Entry]:
    """Groups and nodes in the order of the flow."""
    return [part for item in drawing.items for part in _item(item)]


def numbered(drawing: Drawing) -> dict[str, str]:
    """An identifier for every node that no format can misread."""
    return {node.name: f"n{number}" for number, node in enumerate(drawing.nodes)}


def _item(item: Box | Frame) -> list[Group | Entry]:
    if isinstance(item, Frame):
        heading = ", ".join((f"{item.title} × {item.repeat}", *item.notes, *map(_tag, item.tags)))
        return [Group(item.name, heading, tuple(part for box in item.boxes for part in _item(box)))]
    speaker = next((n for n in item.nodes if n.kind == "operator"), None)
    said = tuple(_short(whole(text)) for text in item.texts)
    if speaker is None and len(item.nodes) > 1:
        entries = [Entry(node, (_short(node.label),), "") for node in item.nodes]
        entries[-1] = replace(entries[-1], lines=(*entries[-1].lines, *said[1:]))
        return [Group(item.kind, said[0] if said else item.kind, tuple(entries))]
    return [_entry(node, item, said, node is (speaker or item.nodes[0])) for node in item.nodes]


def _entry(node: Node, box: Box, said: tuple[str, ...], speaks: bool) -> Entry:
    if not speaks:
        return Entry(node, (_short(node.label),), box.accent)
    titled = any(text.role == "title" for text in box.texts)
    lines = (*(() if titled else (_short(node.label),)), *_with_tags(box.texts, said, box.tags))
    return Entry(node, lines, box.accent, "; ".join(f"{tag.words}: {tag.why}" for tag in box.tags))


def _with_tags(texts: tuple[Text, ...], said: tuple[str, ...], tags: tuple[Tag, ...]) -> list[str]:
    """The tags between formulas and facts."""
    late = [line for text, line in zip(texts, said, strict=True) if text.role in ("fact", "cost")]
    early = [line for text, line in zip(texts, said, strict=True) if text.role not in ("fact", "cost")]
    return [*early, *map(_tag, tags), *late]


def _tag(tag: Tag) -> str:
    return _short(f"{tag.kind}: {tag.words}")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
