"""What a rule of approximation is: the form that it rewrites, what it may know, and how it says no."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sympy

from crate_dsl.language.model import Held, Shape
from crate_dsl.library.form import Form, Leaf
from crate_dsl.library.tree import Tree


class Refusal(Exception):
    """A rule cannot be applied; the message says why, in the user's terms."""


class Absent(Refusal):
    """The site does not occur in the expression."""


@dataclass(frozen=True)
class Context:
    """What a rule may know beside the form: the tokens, its scalar arguments, and the sizes in force."""

    tokens: Leaf
    arguments: tuple[sympy.Expr, ...]
    words: tuple[str, ...]  # bare words among the arguments, such as `bias`
    sizes: Mapping[str, int]
    step: sympy.Expr = sympy.Integer(1)  # the step size, which the words of the operator carry


@dataclass(frozen=True)
class Fitted:
    """A matrix, or a family of them, that is computed once from fitting data and constant afterwards.

    `value` is its definition in terms of the tokens as they are fitted; `index` is the family's index in it.
    """

    name: str
    shape: Shape
    index: str | None
    value: Form | Tree


@dataclass(frozen=True)
class Introduced:
    """A matrix that takes the place of the parameter `origin`, and what it is held to."""

    name: str
    shape: Shape
    origin: str
    held: Held = "learned"


@dataclass(frozen=True)
class Rewriting:
    """The new form, and the matrices that the rule introduced; fitted ones come with their definition."""

    form: Form
    introduced: tuple[Introduced, ...] = ()
    fitted: tuple[Fitted, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One way to replace a site; `assumption` is what would make it exact, `choice` marks a matter of taste."""

    site: str
    name: str
    apply: Callable[[Form, Context], Rewriting]
    usage: str
    assumption: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    choice: bool = False
