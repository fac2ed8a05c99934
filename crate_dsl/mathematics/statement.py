"""What a step states, ready to be derived from: the energy as a tree over leaves, and the leaves' roles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy

from crate_dsl.errors import fail
from crate_dsl.language.model import ONE, Block, Model, Parameter, Step
from crate_dsl.language.model import Word as LibraryWord
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Factor, Form, Leaf, Word, leaves, with_inner_forms
from crate_dsl.library.rules import Fitted, Introduced
from crate_dsl.library.scalars import base_name
from crate_dsl.library.tree import Apply, Matrix, Scalar, SumOver, Tree, tree_leaves, with_children
from crate_dsl.mathematics.derivation import CHOICE, EXACT, DerivationStep
from crate_dsl.mathematics.differentiate import form_of
from crate_dsl.mathematics.express import Scope, express, let_scope, numbers_in_force, scalars_in_force, step_scope
from crate_dsl.mathematics.quantities import Quantity


@dataclass(frozen=True)
class Statement:
    """A step and its energy.

    `tokens` is the leaf of the tokens as the derivation sees them, plain; `raw` and `read` are what stands for them
    once the norm is put in. `size` is kappa or eta; where it is a column, one step size for each feature, `sizes` holds
    it and `size` is 1. `scope` resolves the scalars of options; `quantities` are computed first, in their order.
    """

    model: Model
    block: Block
    step: Step
    energy: Tree
    scope: Scope
    tokens: Leaf
    read: Leaf
    size: sympy.Expr
    sizes: Form | None
    quantities: tuple[Quantity, ...]

    @property
    def raw(self) -> Leaf:
        return self.tokens

    @property
    def result(self) -> Leaf:
        """The tokens after the step."""
        return replace(self.tokens, name=f"{self.tokens.name}+")

    @property
    def skip(self) -> Leaf:
        """What the identity word, or a skip, carries."""
        return self.read if self.step.residual == "normed" else self.raw

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        names = {*self.step.actuals.values(), self.step.read}
        names |= {leaf.name for quantity in self.quantities for leaf in tree_leaves(quantity.tree)}
        names |= {leaf.name for leaf in leaves(self.sizes)} if self.sizes else set()
        return tuple(p for p in self.block.parameters if p.name in names)

    def start_value(self, value: sympy.Expr) -> float:
        """The number of a scalar at the start of training, from reals, sizes and learned start values."""
        learned = {name: s.start for s in (*self.model.scalars, *self.block.scalars) for name in (s.base, s.name)}
        numbers = {**self.block.sizes, **self.model.reals, **learned}
        starts = {symbol: sympy.Rational(numbers[base_name(symbol)]) for symbol in value.free_symbols}
        return float(value.xreplace(starts))


def state(model: Model, block: Block, step: Step) -> Statement:
    tokens = Leaf(model.tokens.name, model.tokens.rows, model.tokens.cols)
    read = replace(tokens, name=f"norm({tokens.name})") if step.norm else tokens
    held = let_scope(model, block, step, read).held
    held.variable = _variable(step, tokens)
    scope = step_scope(model, block, step, held)
    energy = express(step.energy.body, scope)
    size, sizes = _sizes(model, block, step)
    quantities = tuple(_read(quantity, tokens, read) for quantity in held.quantities.values())
    return Statement(model, block, step, energy, scope, tokens, read, size, sizes, quantities)


def _variable(step: Step, tokens: Leaf) -> Leaf:
    """What the step optimises: the tokens, or its unknown."""
    return replace(tokens, name=step.unknown) if step.unknown else tokens


def _sizes(model: Model, block: Block, step: Step) -> tuple[sympy.Expr, Form | None]:
    """The step size: a number, or a column of them."""
    if step.size is None:
        return sympy.Integer(1), None
    matrices = {p.name: Leaf(p.name, p.shape.rows, p.shape.cols) for p in block.parameters if not p.shape.family}
    scope = Scope(matrices, scalars_in_force(model, block), numbers_in_force(model, block, step))
    size = express(step.size, scope)
    return (size.value, None) if isinstance(size, Scalar) else (sympy.Integer(1), form_of(size))


def _read(quantity: Quantity, tokens: Leaf, read: Leaf) -> Quantity:
    """The quantity, of the tokens as the step reads them."""
    return replace(quantity, tree=renamed(quantity.tree, tokens.name, read.name))


def renamed(tree: Tree, old: str, new: str) -> Tree:
    """Another name for a matrix."""
    if isinstance(tree, Matrix) and tree.leaf.name == old:
        return replace(tree, leaf=replace(tree.leaf, name=new))
    return with_children(tree, lambda child: renamed(child, old, new))


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
    if isinstance(factor, Leaf):
        return replace(factor, name=new.name) if factor.name == old.name else factor
    return with_inner_forms(factor, lambda form: substituted(form, old, new))


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


def causal_record(statement: Statement, result: Leaf, placed: Form) -> tuple[DerivationStep, ...]:
    """The line of a derivation that says how a causal step reads its operator."""
    if not statement.step.causal:
        return ()
    z, count = statement.tokens.name, statement.tokens.cols
    text = f"column t of {result.name} is that of tokens 1..t of {z}: every sum over tokens ends at t, {count} means t"
    why = (
        f"token t follows the energy of its own prefix, the gradient in token t of {statement.step.energy.name} of "
        "tokens 1..t, what is given held; this is not the gradient of the energies of all prefixes added up"
    )
    return (DerivationStep("causal", placed, text, why, CHOICE, statement.step.span),)


def stated(statement: Statement) -> DerivationStep:
    """The first line of every derivation."""
    what = statement.step.energy.name
    return DerivationStep("energy", what, statement.energy, "as stated in the spec", EXACT, statement.step.energy.span)


def let_record(statement: Statement) -> list[DerivationStep]:
    """One line for every let of the step."""
    held = "computed from the tokens as the step reads them, and held constant in what follows", CHOICE
    number = "a number free of the tokens, which stands as it is in what follows", EXACT
    stated = (quantity for quantity in statement.quantities if quantity.stated and not quantity.is_given)
    return [DerivationStep("let", q.name, q.tree, *(number if q.is_number else held), q.span) for q in stated]


def introduced_parameter(new: Introduced, statement: Statement) -> Parameter:
    """A matrix that a rule introduced: it starts as the parameter it departs from, a bias then at zero.

    Raises:
        CrateError: where the spec has a parameter of that name already, or the matrix that it departs from is frozen.
    """
    for parameter in statement.block.parameters:
        if parameter.name == new.name:
            hint = f'"{new.name}" is the name of the matrix freed from "{new.origin}"; take another name for yours'
            raise fail(
                f'"{new.name}" would be two parameters', parameter.span, hint, [(statement.step.span, "freed here")]
            )
    source = next((p for p in statement.block.parameters if p.name == new.origin), None)
    if source is None:
        hint = "a frozen matrix is computed from data, so that none can be learned in its place: leave the adjoint tied"
        raise fail(f'the outer map is the frozen "{new.origin}", which cannot be freed', statement.step.span, hint)
    init = LibraryWord("zeros") if source.init and new.shape.cols == ONE else source.init
    return Parameter(new.name, new.shape, init, source.shared, statement.step.span, new.origin, held=new.held)


def fitted_parameter(fitted: Fitted, statement: Statement) -> Parameter:
    """A matrix that a rule computes from data, held beside the learned ones.

    Raises:
        CrateError: where the spec has a quantity of that name already.
    """
    taken = {p.name: p.span for p in statement.block.parameters} | {statement.tokens.name: statement.step.span}
    if fitted.name in taken:
        message = f'"{fitted.name}" is the name of a frozen factor and of something else'
        raise fail(message, taken[fitted.name], "choose another name", [(statement.step.span, "frozen here")])
    return Parameter(fitted.name, fitted.shape, None, False, statement.step.span, fitted=True)


def used(
    parameters: tuple[Parameter, ...], *forms: Form, quantities: tuple[Quantity, ...] = ()
) -> tuple[Parameter, ...]:
    """The parameters that the forms and quantities hold: a rule may have taken the last use of one away."""
    names = {leaf.name for form in forms for leaf in leaves(form)}
    names |= {leaf.name for quantity in quantities for leaf in tree_leaves(quantity.tree)}
    return tuple(parameter for parameter in parameters if parameter.name in names)
