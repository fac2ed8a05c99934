"""What the parser returns: the text of a spec as a tree, nothing resolved, every node with its span."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from crate_dsl.errors import Source, Span

MAX_EXPONENT = 60  # of a number, which is kept exactly


@dataclass(frozen=True)
class Node:
    """Base of every node; `span` is the text it came from."""

    span: Span


Line = TypeVar("Line", bound=Node)


def walk(node: Node) -> Iterator[Node]:
    """A node and all nodes inside it, those of an expression in the order of the text."""
    yield node
    for part in vars(node).values():
        for inner in part if isinstance(part, tuple) else (part,):
            if isinstance(inner, Node):
                yield from walk(inner)


# ---- expressions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number(Node):
    value: Fraction  # exact: 0.1 is 1/10


@dataclass(frozen=True)
class Name(Node):
    name: str
    index: str | None = None  # U[k]: index "k"


@dataclass(frozen=True)
class Negate(Node):
    operand: Expression


@dataclass(frozen=True)
class Transpose(Node):
    operand: Expression


@dataclass(frozen=True)
class Binary(Node):
    operator: str  # one of + - * / ^ .+ .* ./ .^
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Call(Node):
    """A word of the library with arguments; a bare word is a call without arguments."""

    name: str
    arguments: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class FamilySum(Node):
    """`sum(index in family) body`."""

    index: str
    family: str
    body: Expression


@dataclass(frozen=True)
class FamilySoftmax(Node):
    """`softmax(index in family) body`: the member `index` of the softmax of all members of the family."""

    index: str
    family: str
    body: Expression


Expression = Number | Name | Negate | Transpose | Binary | Call | FamilySum | FamilySoftmax


# ---- declarations ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Binding(Node):
    name: str
    value: Expression


@dataclass(frozen=True)
class Sizes(Node):
    bindings: tuple[Binding, ...]


@dataclass(frozen=True)
class Reals(Node):
    bindings: tuple[Binding, ...]


@dataclass(frozen=True)
class Preset(Node):
    name: str
    bindings: tuple[Binding, ...]


@dataclass(frozen=True)
class Learn(Node):
    """`learn NAME [> 0] = start [per head | per iteration]`."""

    name: str
    above: Expression | None
    start: Expression
    per_head: bool
    per_iteration: bool = False


@dataclass(frozen=True)
class Dimensions(Node):
    """`d x N`, `K of d x p`, or `real` (rows and cols None)."""

    rows: Expression | None
    cols: Expression | None
    family: Expression | None = None


@dataclass(frozen=True)
class LearnMatrix(Node):
    """`learn NAME: K of p x 1 = zeros`."""

    name: str
    dimensions: Dimensions
    init: Call


@dataclass(frozen=True)
class Learns(Node):
    learns: tuple[Learn, ...]
    matrices: tuple[LearnMatrix, ...] = ()


@dataclass(frozen=True)
class Argument(Node):
    name: str
    dimensions: Dimensions


@dataclass(frozen=True)
class EnergyDeclaration(Node):
    """`energy name(variables | given) = body`; without a bar the first argument is the variable."""

    name: str
    variables: tuple[Argument, ...]
    given: tuple[Argument, ...]
    body: Expression


@dataclass(frozen=True)
class Input(Node):
    word: Call


@dataclass(frozen=True)
class TokensLine(Node):
    name: str
    dimensions: Dimensions
    terms: tuple[Call, ...]


@dataclass(frozen=True)
class MaskLine(Node):
    word: Call
    before: str


@dataclass(frozen=True)
class NormLine(Node):
    word: Call


@dataclass(frozen=True)
class HeadLine(Node):
    word: Call
    of: Name | None


@dataclass(frozen=True)
class InitLine(Node):
    """`init NAME rule(...)`, at the top of a file, in a block or in a step."""

    name: str
    word: Call


@dataclass(frozen=True)
class Include(Node):
    """`include rates` (energies of the standard library) or `include "mine.crate"` (a file beside this one)."""

    name: str
    path: bool  # whether it is a path in double quotes


@dataclass(frozen=True)
class LossTerm(Node):
    """A data loss by its name, or `weight * energy(arguments)`, optionally `in encoder`; the sign stands before it."""

    negative: bool
    product: Expression
    block: str | None


@dataclass(frozen=True)
class LossLine(Node):
    """`loss cross_entropy + 0.01 * rate(Z, U)`."""

    terms: tuple[LossTerm, ...]


@dataclass(frozen=True)
class DepthLine(Node):
    """`stochastic depth linear(0.1)`."""

    word: Call


@dataclass(frozen=True)
class ClassLine(Node):
    """`class attention(2, K, scale)`."""

    word: Call


# ---- blocks and steps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EnergyUse(Node):
    """`rate(Z, U)` or `lasso(A | Z, D)` after `by`."""

    name: str
    variables: tuple[Name, ...]  # left of the bar; without a bar, all arguments stand in `given`
    given: tuple[Name, ...]
    bar: bool


@dataclass(frozen=True)
class SiteLine(Node):
    """`site ~ rule(arguments)`."""

    site: str
    rule: Call


@dataclass(frozen=True)
class FromOption(Node):
    start: Expression  # the tokens' name, or the number 0


@dataclass(frozen=True)
class StepOption(Node):
    size: Expression  # `step kappa`


@dataclass(frozen=True)
class StepsOption(Node):
    count: Expression
    size: Expression  # `steps 2 of eta`


@dataclass(frozen=True)
class AccelerateOption(Node):
    """`accelerate`: momentum between the iterations of a proximal step."""


@dataclass(frozen=True)
class ResidualOption(Node):
    word: str | None  # `residual`, `residual raw`, `residual normed`


@dataclass(frozen=True)
class ReadOption(Node):
    name: str  # `read D1`


@dataclass(frozen=True)
class CausalOption(Node):
    """`causal`: column t of the operator is that of tokens 1..t."""


@dataclass(frozen=True)
class LetOption(Node):
    """`let NAME = value`, or `let NAME[index in family] = value`; `given NAME ~ value` where it may be handed in."""

    name: str
    index: str | None
    family: str | None
    value: Expression
    given: bool = False


Option = (
    NormLine
    | SiteLine
    | FromOption
    | StepOption
    | StepsOption
    | AccelerateOption
    | ResidualOption
    | ReadOption
    | CausalOption
    | InitLine
    | LetOption
)


@dataclass(frozen=True)
class StepStatement(Node):
    verb: str  # one of `VERBS` in `layout.py`, in small letters
    tokens: str
    use: EnergyUse
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Shared(Node):
    """`shared U, D`: one parameter for all layers of the block."""

    names: tuple[Name, ...]


@dataclass(frozen=True)
class BlockDeclaration(Node):
    role: str  # encoder, decoder
    repeat: Expression
    body: tuple[StepStatement | Learns | Shared | InitLine, ...]

    def all(self, kind: type[Line]) -> list[Line]:
        """The lines of one kind, in the order of the text."""
        return [line for line in self.body if isinstance(line, kind)]


@dataclass(frozen=True)
class InverseDeclaration(Node):
    """`decoder repeat L = inverse(encoder) with K = 8`."""

    role: str
    repeat: Expression | None  # that of the encoder where it is left out
    of: str
    changes: tuple[Binding, ...]


Item = (
    Sizes
    | Reals
    | Learns
    | Preset
    | EnergyDeclaration
    | Input
    | TokensLine
    | MaskLine
    | NormLine
    | HeadLine
    | InitLine
    | Include
    | LossLine
    | DepthLine
    | ClassLine
    | BlockDeclaration
    | InverseDeclaration
)


@dataclass(frozen=True)
class Spec:
    """A parsed file; `included` are the energies of the files that it includes, empty until those have been read."""

    source: Source
    name: str
    description: str
    items: tuple[Item, ...]
    included: tuple[EnergyDeclaration, ...] = ()

    def all(self, kind: type[Line]) -> list[Line]:
        """The items of one kind, in the order of the text."""
        return [item for item in self.items if isinstance(item, kind)]
