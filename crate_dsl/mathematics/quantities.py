"""Quantities that a derivation holds constant: the lets of a step, and numbers made of held matrices.

`let Pi[k in K] = ...` is a quantity by its name. A 1 x 1 part of an energy that is free of the variable, such as
`total(Pi[k])`, becomes a quantity of the compiler's own wherever a number is needed: a scalar symbol of a coefficient,
`total(Pi)[k]`, that cancels and merges like any other. Quantities are computed in their order, from the tokens as the
step reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy

from crate_dsl.errors import Span, fail
from crate_dsl.language.model import ONE
from crate_dsl.library.form import Leaf
from crate_dsl.library.scalars import base_name, scalar, scalar_indices
from crate_dsl.library.tree import Apply, Matrix, Scalar, SoftmaxOver, SumOver, Tree, children, tree_scalars

POSITIVE = {"total", "column_sums", "row_sums", "transpose", "hadamard", "plus", "times", "scale"}  # of positive ones


@dataclass(frozen=True)
class Quantity:
    """A held matrix or number; with an index, one for every member of a family.

    `stated` tells the lets of a spec from the compiler's own; `positive` says that all entries provably are. A quantity
    with an `estimate` is given with the data that a step is fitted to, and `tree` is then its own leaf. One that
    `is_number` is made of sizes, reals and learned scalars alone.
    """

    name: str
    index: str | None
    family: str | None
    tree: Tree
    stated: bool
    positive: bool = False
    estimate: Tree | None = None
    is_number: bool = False
    span: Span | None = field(default=None, repr=False, compare=False)

    @property
    def is_given(self) -> bool:
        """Whether it is handed in with data, not computed."""
        return isinstance(self.tree, Matrix) and self.tree.leaf.name == self.name

    @property
    def is_scalar(self) -> bool:
        return self.tree.shape == (ONE, ONE)

    @property
    def value(self) -> sympy.Expr:
        """What stands for a scalar quantity in coefficients: a number itself, else its symbol."""
        return self.tree.value if isinstance(self.tree, Scalar) and self.is_number else self.symbol()

    @property
    def leaf(self) -> Leaf:
        return Leaf(self.name, *self.tree.shape, self.index)

    def symbol(self, index: str | None = None) -> sympy.Symbol:
        """The scalar that stands for a held number in coefficients."""
        return scalar(self.name, sign="positive" if self.positive else "real", index=index or self.index)


@dataclass
class Held:
    """Collects the quantities of one step while its expressions are read; `variable` is what is not held."""

    variable: Leaf | None = None
    quantities: dict[str, Quantity] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    def add(
        self, name: str, tree: Tree, index: str | None, family: str | None, stated: bool, span: Span | None
    ) -> Quantity:
        positive, number = is_positive(tree, self.quantities), index is None and self._is_number(tree)
        self.quantities[name] = Quantity(name, index, family, tree, stated, positive, None, number, span)
        return self.quantities[name]

    def _is_number(self, tree: Tree) -> bool:
        """Whether nothing held stands in a scalar."""
        names = {base_name(symbol) for symbol in tree_scalars(tree)}
        return isinstance(tree, Scalar) and not names & self.quantities.keys()

    def symbol(self, tree: Tree, families: Mapping[str, str]) -> sympy.Symbol:
        """The symbol of a held number; equal ones share it, whatever the name of their index.

        Raises:
            CrateError: where the number depends on members of two families.
        """
        free = sorted(_free_indices(tree))
        if len(free) > 1:
            raise fail("a number here depends on members of two families", tree.span, "sum over one of them first")
        index = free[0] if free else None
        name, key = _text(tree), _key(tree, index)
        while self._keys.setdefault(name, key) != key:
            name += "'"
        if name not in self.quantities:
            self.add(name, tree, index, families[index] if index else None, False, tree.span)
        return self.quantities[name].symbol(index)


def is_positive(tree: Tree, quantities: Mapping[str, Quantity]) -> bool:
    """Whether every entry is greater than zero, whatever the weights and tokens."""
    match tree:
        case SoftmaxOver():
            return True
        case Apply(atom="exp"):
            return True
        case Matrix():
            return tree.leaf.name in quantities and quantities[tree.leaf.name].positive
        case Scalar():
            return bool(tree.value.is_positive)
        case SumOver():
            return all(is_positive(child, quantities) for child in children(tree))
        case Apply() if tree.atom in POSITIVE:
            return all(is_positive(child, quantities) for child in children(tree))
    return False


# ---- names of held numbers -----------------------------------------------------------------------------------------

INFIX = {"plus": "+", "minus": "-", "times": "*", "scale": "*", "hadamard": ".*", "add_column": ".+"}


def _free_indices(tree: Tree) -> frozenset[str]:
    match tree:
        case Matrix():
            return frozenset({tree.leaf.index} if tree.leaf.index else ())
        case Scalar():
            return scalar_indices(tree.value)
    inside = frozenset().union(*map(_free_indices, children(tree)))
    return inside - {tree.index} if isinstance(tree, SumOver) else inside


def _text(tree: Tree) -> str:
    """The number in the language's notation, without indices: `total(Pi)`."""
    match tree:
        case Matrix():
            return tree.leaf.name + "'" * tree.leaf.transposed
        case Scalar():
            return str(tree.value).replace("**", "^").replace("[", "_").replace("]", "")
        case SumOver() | SoftmaxOver():
            word = "sum" if isinstance(tree, SumOver) else "softmax"
            return f"{word}({tree.family}) {_text(tree.body)}"
        case Apply(atom="transpose"):
            return f"{_text(tree.arguments[0])}'"
        case Apply() if tree.atom in INFIX:
            return "(" + f" {INFIX[tree.atom]} ".join(map(_text, tree.arguments)) + ")"
    return f"{tree.atom}({', '.join(map(_text, tree.arguments))})"


def _key(tree: Tree, free: str | None) -> str:
    """What tells numbers of one name apart: the tree, its free index left open."""
    match tree:
        case Matrix():
            index = "" if tree.leaf.index == free else f"#{tree.leaf.index}"
            return f"{tree.leaf.name}{index}{tree.leaf.transposed}"
        case Scalar():
            return str(tree.value).replace(f"[{free}]", "[]")
    own = f"{tree.index} in {tree.family} " if isinstance(tree, SumOver | SoftmaxOver) else ""
    head = tree.atom if isinstance(tree, Apply) else type(tree).__name__
    return f"{head}({own}{', '.join(_key(child, free) for child in children(tree))})"
