"""What the checker must know of the library's words; the library fills it, so that imports point backwards only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crate_dsl.language.model import Shape


class ShapeClash(Exception):
    """Raised by a shape rule: which two arguments disagree (positions), on which axes, and what is wrong."""

    def __init__(self, message: str, *places: int) -> None:
        super().__init__(message)
        self.message = message
        self.places = places


@dataclass(frozen=True)
class AtomSignature:
    """An atom as the checker sees it.

    `shape` maps the shapes of the arguments to the shape of the value and raises `ShapeClash`. `smooth` says whether a
    gradient exists, `separable` whether the atom is a sum over the entries of its one matrix argument, `flat` whether
    its slope is zero wherever it has one, so that training cannot follow it.
    """

    name: str
    arity: int
    shape: Callable[[tuple[Shape, ...]], Shape]
    smooth: bool
    separable: bool
    usage: str  # "logdet(M): log-determinant of a square matrix"
    flat: bool = False
    columnwise: bool = False  # a constraint on every column, which tokens can be projected onto


@dataclass(frozen=True)
class WordSignature:
    """A word with arguments: the kinds of the required ones, then of the optional ones.

    A kind is "size" (positive integer), "real" (any number), "positive", "fraction" (strictly between 0 and 1),
    "rate" (from 0 to below 1), "scalar" (an expression of sizes and reals, not evaluated) or a "|"-separated choice of
    bare words, such as "learned|sincos".
    """

    name: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    usage: str = ""


@dataclass(frozen=True)
class LossSignature:
    """A data loss: the heads that it fits, and whether it is counted on what a mask has removed."""

    name: str
    heads: tuple[str, ...]
    masked: bool = False
    usage: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """All fixed words, by kind."""

    atoms: Mapping[str, AtomSignature]
    sites: Mapping[str, Mapping[str, WordSignature]]  # site -> rule -> signature
    inputs: Mapping[str, WordSignature]
    stems: Mapping[str, WordSignature]  # words of the tokens line: patches, position, ...
    masks: Mapping[str, WordSignature]
    norms: Mapping[str, WordSignature]
    heads: Mapping[str, WordSignature]
    pools: tuple[str, ...]  # what a head may read: class_token, mean
    inits: Mapping[str, WordSignature]
    readers: Mapping[str, WordSignature] = field(default_factory=dict)  # of the `class` line
    depths: Mapping[str, WordSignature] = field(default_factory=dict)  # how stochastic depth goes over the layers
    losses: Mapping[str, LossSignature] = field(default_factory=dict)
    energies: Mapping[str, Path] = field(default_factory=dict)  # files of the standard library
