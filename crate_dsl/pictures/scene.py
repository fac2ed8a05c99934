"""What a page holds once everything has its place: rectangles, discs, lines and labels, in the order of painting."""

from __future__ import annotations

from dataclasses import dataclass

from crate_dsl.pictures.notation import Runs


@dataclass(frozen=True)
class Rectangle:
    """`role` says what it frames ("box", "frame", "pill", "tag" or "" for decoration)."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str
    radius: float = 6
    thickness: float = 1
    dashes: str = ""
    role: str = ""


@dataclass(frozen=True)
class Disc:
    x: float
    y: float
    radius: float
    fill: str
    stroke: str


@dataclass(frozen=True)
class Path:
    """A line through points, with a head at its end where `arrow`."""

    points: tuple[tuple[float, float], ...]
    stroke: str
    arrow: bool = False
    thickness: float = 1.5
    dashes: str = ""


@dataclass(frozen=True)
class Label:
    """One line of text; (x, y) is the start of its baseline, or the middle where `centred`. `tip` is the whole text."""

    x: float
    y: float
    runs: Runs
    size: float
    colour: str
    serif: bool = False
    bold: bool = False
    centred: bool = False
    tip: str = ""


Shape = Rectangle | Disc | Path | Label


@dataclass(frozen=True)
class Scene:
    width: float
    height: float
    shapes: tuple[Shape, ...]
