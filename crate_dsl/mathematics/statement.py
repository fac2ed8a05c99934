"""What a step states, ready to be derived from: the energy as a tree over leaves, and the leaves' roles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy

from crate_dsl.errors import fail
from crate_dsl.language.model import ONE, Block, Model, Parameter, Shape, Step
from crate_dsl.language.model import Word as LibraryWord
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Factor, Form, Function, Inverse, Leaf, Word, leaves
from crate_dsl.library.tree import Apply, Scalar, SumOver, Tree
from crate_dsl.mathematics.derivation import CHOICE, EXACT, DerivationStep
from crate_dsl.mathematics.express import Scope, express, scalars_in_force, step_scope


@dataclass(frozen=True)
class Statement:
    """A step and its energy.

    `tokens` is the leaf of the tokens as the derivation sees them, plain; `raw` and `read` are what stands for them
    once the norm is put in. `size` is kappa or eta. `scope` resolves the scalars of options.
    """

    model: Model
    block: Block
    step: Step
    energy: Tree
    scope: Scope
    tokens: Leaf
    read: Leaf
    size: sympy.Expr

    @property
    def raw(self) -> Leaf:
        return self.tokens

    @property
    def skip(self) -> Leaf:
        """What the identity word, or a skip, carries."""
        return self.read if self.step.residual == "normed" else self.raw

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        names = {*self.step.actuals.values(), self.step.read}
        return tuple(p for p in self.block.parameters if p.name in names)

    def start_value(self, value: sympy.Expr) -> float:
        """The number of a scalar at the start of training, from reals, sizes and learned start values."""
        learned = {name: s.start for s in (*self.model.scalars, *self.block.scalars) for name in (s.base, s.name)}
        numbers = {**self.block.sizes, **self.model.reals, **learned}
        starts = {symbol: sympy.Rational(numbers[symbol.name.partition("[")[0]]) for symbol in value.free_symbols}
        return float(value.xreplace(starts))


def state(model: Model, block: Block, step: Step) -> Statement:
    scope = step_scope(model, block, step)
    tokens = Leaf(model.tokens.name, model.tokens.rows, model.tokens.cols)
    read = replace(tokens, name=f"norm({tokens.name})") if step.norm else tokens
    outer = Scope({}, scalars_in_force(model, block))
    size = express(step.size, outer).value if step.size is not None else sympy.Integer(1)
    return Statement(model, block, step, express(step.energy.body, scope), scope, tokens, read, size)


# ---- constraints, and tokens replaced by normed tokens -------------------------------------------------------------


def without_constraints(tree: Tree) -> Tree:
    """The energy without its indicators, which are zero where they hold."""
    match tree:
        case Apply(atom="plus" | "minus", arguments=(left, right)):
            left, right = without_constraints(left), without_constraints(right)
            if _vanishes(right):
                return left
            return right if _vanishes(left) and tree.atom == "plus" else replace(tree, arguments=(left, right))
        case Apply(atom="scale", arguments=(factor, operand)):
            inner = without_constraints(operand)
            return inner if _vanishes(inner) else replace(tree, arguments=(factor, inner))
        case Apply() if tree.atom in ATOMS and ATOMS[tree.atom].constraint:
            return Scalar(sympy.Integer(0), tree.span)
        case SumOver():
            return replace(tree, body=without_constraints(tree.body))
    return tree


def _vanishes(tree: Tree) -> bool:
    return isinstance(tree, Scalar) and tree.value == 0


def inserted(form: Form, tokens: Leaf, identity: Leaf, operand: Leaf) -> Form:
    """Put `identity` for the tokens where they stand alone and `operand` everywhere else."""
    words = []
    for word in form.words:
        leaf = identity if word.factors == (tokens,) and not word.over else operand
        words.append(replace(word, factors=tuple(_put(factor, tokens, leaf) for factor in word.factors)))
    return Form.of(form.rows, form.cols, words)


def _put(factor: Factor, old: Leaf, new: Leaf) -> Factor:
    match factor:
        case Leaf():
            return replace(factor, name=new.name) if factor.name == old.name else factor
        case Inverse():
            return Inverse(substituted(factor.of, old, new))
        case Function():
            return replace(factor, arguments=tuple(substituted(a, old, new) for a in factor.arguments))


def substituted(form: Form, old: Leaf, new: Leaf) -> Form:
    """`new` for `old` everywhere; both have one shape."""
    words = (Word(w.coefficient, tuple(_put(f, old, new) for f in w.factors), w.over) for w in form.words)
    return Form.of(form.rows, form.cols, words)


def norm_record(statement: Statement, before: Form, after: Form) -> tuple[DerivationStep, ...]:
    """The line of a derivation that says where the norm stands."""
    norm = statement.step.norm
    if norm is None:
        return ()
    carried = "raw" if statement.skip == statement.raw else "normalised"
    skip = f"; the tokens alone stay {carried}" if statement.step.residual else ""
    why = f"the derivation is done on plain tokens; the operator then reads them normalised by {norm.name}{skip}"
    return (DerivationStep("norm", before, after, why, CHOICE, norm.span),)


def stated(statement: Statement) -> DerivationStep:
    """The first line of every derivation."""
    what = statement.step.energy.name
    return DerivationStep("energy", what, statement.energy, "as stated in the spec", EXACT, statement.step.energy.span)


def introduced_parameter(name: str, shape: Shape, origin: str, statement: Statement) -> Parameter:
    """A learned matrix that a rule introduced: it starts as the parameter it departs from, a bias then at zero.

    Raises:
        CrateError: where the spec has a parameter of that name already.
    """
    for parameter in statement.block.parameters:
        if parameter.name == name:
            hint = f'"{name}" is the name of the matrix freed from "{origin}"; take another name for yours'
            raise fail(f'"{name}" would be two parameters', parameter.span, hint, [(statement.step.span, "freed here")])
    source = next(p for p in statement.block.parameters if p.name == origin)
    init = LibraryWord("zeros") if source.init and shape.cols == ONE else source.init
    return Parameter(name, shape, init, source.shared, statement.step.span, origin)


def used(parameters: tuple[Parameter, ...], *forms: Form) -> tuple[Parameter, ...]:
    """The parameters that the forms hold: a rule may have taken the last use of one away."""
    names = {leaf.name for form in forms for leaf in leaves(form)}
    return tuple(parameter for parameter in parameters if parameter.name in names)
