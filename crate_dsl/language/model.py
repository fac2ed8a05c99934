"""What the checker returns: the network that a spec states, every name resolved and every size a number.

Axes keep their names beside their sizes: two axes match when their *names* do, never because their sizes happen to be
equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from crate_dsl.errors import Diagnostic, Source, Span
from crate_dsl.language.syntax import Expression

ONE = "1"  # the axis of a scalar, of a column vector's width


def axis_size(axis: str, sizes: Mapping[str, int]) -> int:
    """The length of an axis: an axis without a name is called by its number, as `ONE` is."""
    return int(axis) if axis.isdigit() else sizes[axis]


@dataclass(frozen=True)
class Shape:
    """`rows x cols`, or `family of rows x cols`; a scalar is 1 x 1."""

    rows: str
    cols: str
    family: str | None = None

    def __str__(self) -> str:
        return (f"{self.family} of " if self.family else "") + f"{self.rows} x {self.cols}"

    @property
    def is_scalar(self) -> bool:
        return self.rows == ONE and self.cols == ONE and self.family is None


SCALAR = Shape(ONE, ONE)

TAKEN = {"I": "I is the identity matrix", "ones": "ones is the vector of ones that derivations use"}


@dataclass(frozen=True)
class Argument:
    """An argument of an energy with its declared shape."""

    name: str
    shape: Shape
    span: Span = field(repr=False, compare=False)


@dataclass(frozen=True)
class Energy:
    """A stated objective; `body` is checked against the shapes but kept as syntax."""

    name: str
    variables: tuple[Argument, ...]
    given: tuple[Argument, ...]
    body: Expression
    span: Span = field(repr=False, compare=False)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return self.variables + self.given


@dataclass(frozen=True)
class Word:
    """A library word of the front end with evaluated arguments: `patches(16, norm)`, `layer(1e-6)`, `normal(0.02)`.

    A value is an int (from sizes), a Fraction (from numbers and reals) or a str (a bare word).
    """

    name: str
    arguments: tuple[int | Fraction | str, ...] = ()
    span: Span | None = field(default=None, repr=False, compare=False)


# What a parameter is held to: a family that stays as it was drawn, whose members beside each other are the transpose of
# the origin's, or are the identity.
Held = Literal["learned", "random", "transposed", "identity"]


@dataclass(frozen=True)
class Parameter:
    """A learned matrix or family; its axes are names, whose sizes are those of the block that holds it."""

    name: str
    shape: Shape
    init: Word | None  # None: the default of its kind
    shared: bool
    span: Span = field(repr=False, compare=False)
    origin: str | None = None  # the parameter that an approximation freed it from; then it belongs to its step alone
    fitted: bool = False  # computed from fitting data, not learned
    top: bool = False  # declared at the top: one for the whole network
    held: Held = "learned"

    @property
    def stored(self) -> bool:
        """Whether a network keeps it; what is not is made of its origin."""
        return self.held in ("learned", "random")


@dataclass(frozen=True)
class LearnedScalar:
    """`learn beta > 0 = 0.1 [per head]`; `lower` is None or the bound; `family` is the axis of `per head`.

    `learn theta = 0.1 per iteration` makes one for each, `theta_1` and so on; `base` is then the name in the spec.
    """

    name: str
    start: Fraction
    lower: Fraction | None
    family: str | None
    shared: bool
    span: Span = field(repr=False, compare=False)
    base: str | None = None


@dataclass(frozen=True)
class SiteRule:
    """`site ~ rule(arguments)`; arguments stay syntax, since they may hold symbolic scalars such as 1/sqrt(p)."""

    site: str
    rule: str
    arguments: tuple[Expression, ...]
    span: Span = field(repr=False, compare=False)


@dataclass(frozen=True)
class Let:
    """A quantity computed from the tokens as the step reads them and held constant by the derivation.

    `shape` has a family where the let has an index, `let Pi[k in K] = ...`. A `given` one comes with the data that a
    step is fitted to; `value` estimates it where it does not.
    """

    name: str
    index: str | None
    shape: Shape
    value: Expression
    span: Span = field(repr=False, compare=False)
    given: bool = False


@dataclass(frozen=True)
class Step:
    """One step of a layer: which energy it optimises, of which of its arguments, starting where, how approximated.

    `actuals` maps every argument of the energy to what stands there: the tokens' name, the unknown's name, a parameter,
    a real, a learned scalar or a let. `unknown` is the fresh name, if any (`A` in `lasso(A | Z, D)`), that replaces the
    tokens; without one the tokens themselves are optimised. `residual` is "raw", "normed" or None (no skip). `size` may
    also be a column of learned numbers, a step size for every feature. Where `causal`, column t of the step is that of
    the step applied to tokens 1..t.
    """

    verb: str
    label: str  # unique in its block: "compress", or "denoise_lasso" and "denoise_rate" where the verb repeats
    tokens: str
    energy: Energy
    actuals: Mapping[str, str]
    unknown: str | None
    norm: Word | None
    residual: str | None
    size: Expression | None  # kappa of a gradient step, eta of a proximal one; None: 1
    iterations: int
    start: str  # "tokens" or "zero"
    read: str | None  # the parameter of a decoupled read-out
    sites: tuple[SiteRule, ...]
    span: Span = field(repr=False, compare=False)
    causal: bool = False
    lets: tuple[Let, ...] = ()  # in the order of the file; a later one may use an earlier one
    accelerate: bool = False  # momentum between iterations

    @property
    def ascends(self) -> bool:
        """Whether the energy is meant to rise."""
        return self.verb in ("denoise", "ascend") and self.unknown is None

    @property
    def title(self) -> str:
        """The step with what stands for the arguments of its energy: `compress Z by rate(Z, U)`."""
        if self.verb == "project":
            return f"project {self.energy.name}"
        sides = (self.energy.variables, self.energy.given)
        variables, given = (", ".join(self.actuals[argument.name] for argument in side) for side in sides)
        bar = " | " if given and self.unknown else ", " if given else ""
        return f"{self.verb} {self.tokens} by {self.energy.name}({variables}{bar}{given})"


@dataclass(frozen=True)
class Block:
    """`encoder repeat L { ... }`: the steps of one layer, their parameters, and the sizes in force in it."""

    role: str
    repeat: int
    sizes: Mapping[str, int]
    parameters: tuple[Parameter, ...]
    scalars: tuple[LearnedScalar, ...]
    steps: tuple[Step, ...]
    inverse_of: str | None  # "encoder" where the block is to be derived as an inverse; its steps are then the encoder's
    span: Span = field(repr=False, compare=False)


@dataclass(frozen=True)
class NormStage:
    """A norm between blocks or before the head; `name` is unique, e.g. "encoder_norm"."""

    name: str
    word: Word
    span: Span = field(repr=False, compare=False)


@dataclass(frozen=True)
class ClassAttention:
    """`class attention(blocks, heads, scale)`, the last stage but for norms: it puts a class token before the tokens.

    Each block is attention of that token alone and a perceptron four times as wide; `scale` is that of both at the
    start.
    """

    blocks: int
    heads: int
    scale: Fraction
    word: Word
    span: Span = field(repr=False, compare=False)
    name: str = "class_attention"


@dataclass(frozen=True)
class TokensModel:
    """How tokens come about: the stem and what is added.

    `count` tokens of which `patches` come from the input: the patches of an image, the tokens of a text.
    """

    name: str
    rows: str  # axis of the features, "d"
    cols: str  # axis of the tokens, "N"
    words: tuple[Word, ...]  # patches, convolutions or embedding, class_token, position in the order of the file
    patches: int
    count: int


@dataclass(frozen=True)
class Head:
    word: Word
    of: str | None


def written(span: Span) -> str:
    """The text of a place on one line, without comments."""
    lines = (line.partition("#")[0] for line in span.text.split("\n"))
    return " ".join(" ".join(lines).split())


@dataclass(frozen=True)
class Penalty:
    """A weighted energy of the loss.

    With a `block` it is evaluated in each of its layers, with the layer's own matrices, on the tokens that leave the
    layer, and averaged over the layers; without one, on the tokens that the head reads. `actuals` maps the energy's
    arguments to the tokens' name, parameters of the block, reals and learned scalars.
    """

    weight: Expression
    negative: bool
    energy: Energy
    actuals: Mapping[str, str]
    block: str | None
    span: Span = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The term as it is written, with its sign."""
        return f"-{written(self.span)}" if self.negative else written(self.span)


@dataclass(frozen=True)
class Loss:
    """What training minimises: a data loss by its name ("" where the head has none), and weighted energies."""

    data: str
    penalties: tuple[Penalty, ...]
    span: Span = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The loss as it is written."""
        return written(self.span).removeprefix("loss ")


@dataclass(frozen=True)
class Model:
    """The whole network. `sizes` are the numbers in force at the top; `reals` the exact values of fixed scalars.

    `text` is the spec with the included energies that it uses in place: its identity. `sources` are the files it came
    from, the spec itself first.
    """

    source: Source
    name: str
    description: str
    preset: str | None
    overrides: Mapping[str, Fraction]
    sizes: Mapping[str, int]
    reals: Mapping[str, Fraction]
    input: Word
    tokens: TokensModel
    mask: Word | None
    stages: tuple[Block | NormStage | ClassAttention, ...]
    head: Head
    inits: Mapping[str, Word]  # of patches, embedding, class_token, position, mask_token and head
    scalars: tuple[LearnedScalar, ...]  # declared at the top: one for the whole network
    warnings: tuple[Diagnostic, ...]
    text: str
    sources: tuple[Source, ...]
    loss: Loss | None = None
    depth: Word | None = None  # of stochastic depth: the rule over the layers, with its rate

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def example(self) -> str:
        """One element of a batch, as messages call it: an image, a text, a sample of vectors."""
        return "sample" if self.input.name == "vectors" else self.input.name

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width of what becomes one token of an image."""
        word = next(word for word in self.tokens.words if word.name in ("patches", "convolutions"))
        sides = [side for side in word.arguments if isinstance(side, int)]
        return sides[0], sides[-1]

    @property
    def pixels(self) -> int:
        """Of one patch, all channels."""
        return self.patch[0] * self.patch[1] * int(self.input.arguments[0])

    @property
    def visible(self) -> int:
        """How many patches of an image a mask leaves: all, where there is none."""
        hidden = float(self.mask.arguments[0]) if self.mask else 0.0
        return int(self.tokens.patches * (1 - hidden))

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(stage for stage in self.stages if isinstance(stage, Block))
