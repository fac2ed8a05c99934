"""What the letters and functions of a derived step stand for, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sympy

from crate_dsl.errors import CompilerBug
from crate_dsl.language.model import Block, LearnedScalar, Model
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Factor, Form, Function, Leaf, form_scalars, inner_forms, leaves
from crate_dsl.library.scalars import base_name
from crate_dsl.library.tree import Apply, Tree, children, tree_scalars
from crate_dsl.mathematics.derivation import Assignment, DerivedStep
from crate_dsl.mathematics.equations import Left
from crate_dsl.mathematics.record import energy_tree

FUNCTION_NOTES = {
    "softmax": "softmax(A): column by column, every column becomes a distribution over the rows",
    "threshold": "threshold(A, tau): tau where an entry is above tau, else 0",
    "onto_sphere": "onto_sphere(A): every column divided by its Euclidean norm",
    "onto_simplex": "onto_simplex(A): every column moved to the nearest probability vector",
    "exp": "exp(A): entry by entry",
    "log": "log(A): entry by entry",
    "reciprocal": "reciprocal(A): 1 / a, entry by entry",
    "scaled": "scaled(A): A itself, kept together until all approximations are made",
    "hadamard": "hadamard(A, B): product entry by entry",
    "log1p": "log1p(A): log(1 + a), entry by entry",
    "root": "root(A): square root, entry by entry",
    "unit_rows": "unit_rows(A): every row divided by its norm",
    "gelu": "gelu(A): a Phi(a), entry by entry, Phi being the normal distribution",
    "gelu_slope": "gelu_slope(A): the derivative of gelu, entry by entry",
    "gelu_potential": "gelu_potential(A): the antiderivative of gelu, entry by entry",
    "softplus": "softplus(A): log(1 + exp(a)), entry by entry",
    "sigmoid": "sigmoid(A): 1 / (1 + exp(-a)), entry by entry",
}
MEANINGS = {  # of a matrix, by what it is held to
    "learned": "learned, {0.shape}",
    "random": "random and never trained, {0.shape}",
    "transposed": "the members of {0.origin} beside each other, transposed as a whole, {0.shape}",
    "identity": "members that are the identity beside each other, {0.shape}",
}
SPELLED_OUT = {"plus", "minus", "times", "transpose", "hadamard", "add_column", "scale", "I"}


@dataclass(frozen=True)
class Entry:
    """A letter with its meaning; functions have their usage, `logdet(M)`, in place of a letter."""

    name: Left | str
    meaning: str


def glossary(model: Model, block: Block, derived: DerivedStep) -> tuple[Entry, ...]:
    return (*_matrices(model, derived), *_scalars(model, block, derived), *_functions(derived))


def _matrices(model: Model, derived: DerivedStep) -> Iterator[Entry]:
    step, raw, read = derived.step, derived.raw, derived.read
    shape = f"{raw.rows} x {raw.cols}"
    yield Entry(_left(raw), f"the tokens as they come in, {shape}, one per column")
    if read != raw:
        yield Entry(_left(read), f"the tokens normalised one by one (norm {step.norm.name}), which the operator reads")
    unknown = f"the unknown of the energy, {derived.objective.variable.rows} x {derived.objective.variable.cols}"
    if step.unknown and derived.objective.variable != derived.result:
        yield Entry(_left(derived.objective.variable), unknown)
        unknown = ""
    start = f"{unknown}, " if step.unknown and unknown else ""
    yield Entry(_left(derived.result), f"{start}what takes the place of the tokens")
    if derived.step.unknown is None and len(derived.assignments) > 1:
        yield Entry(_left(derived.assignments[0].target), "the step, before each feature's size is put to it")
    for parameter in derived.parameters:
        index = "k" if parameter.shape.family else None
        yield Entry(_left(Leaf(parameter.name, parameter.shape.rows, parameter.shape.cols, index)),
                    MEANINGS[parameter.held].format(parameter))  # fmt: skip
    for quantity in (q for q in derived.quantities if q.stated and not q.is_scalar):
        shape = " x ".join(quantity.tree.shape)
        family = f", one for each of {quantity.family}" if quantity.family else ""
        yield Entry(_left(quantity.leaf), f"held: computed from the tokens, {shape}{family}")
    for axis in dict.fromkeys(leaf.rows for form in _forms(derived) for leaf in leaves(form) if leaf.name == "ones"):
        yield Entry(_left(Leaf("ones", axis, "1")), f"the column vector of {axis} ones")


def _left(leaf: Leaf) -> Left:
    return Left("leaf", leaf=leaf)


def _forms(derived: DerivedStep) -> list[Form]:
    recorded = [line.after.value if isinstance(line.after, Assignment) else line.after for line in derived.record]
    return [form for form in recorded if isinstance(form, Form)] + [a.value for a in derived.assignments]


# ---- scalars -------------------------------------------------------------------------------------------------------


def scalars_of(derived: DerivedStep) -> list[sympy.Symbol]:
    """The scalar symbols of a step, by name."""
    trees = (energy_tree(derived), *(quantity.tree for quantity in derived.quantities))
    values = [derived.size, *(symbol for tree in trees for symbol in tree_scalars(tree))]
    values += [s for form in _forms(derived) for s in form_scalars(form)]
    return sorted({symbol for value in values for symbol in value.free_symbols}, key=lambda symbol: symbol.name)


def _scalars(model: Model, block: Block, derived: DerivedStep) -> Iterator[Entry]:
    learned = {scalar.name: scalar for scalar in (*model.scalars, *block.scalars)}
    held = {quantity.name for quantity in derived.quantities}
    for symbol in scalars_of(derived):
        name = base_name(symbol)
        if name in held:
            yield Entry(Left("symbol", name=symbol.name), "held: a number computed from the tokens")
            continue
        yield Entry(Left("symbol", name=symbol.name), _meaning(name, model, block, learned))


def _meaning(name: str, model: Model, block: Block, learned: dict[str, LearnedScalar]) -> str:
    if any(scalar.base == name for scalar in learned.values()):
        return "learned, one for every iteration"
    if name in learned:
        return "learned" + (f", one for each of {learned[name].family}" if learned[name].family else "")
    if name in model.reals:
        return f"{float(model.reals[name]):.12g}, fixed"
    if name in block.sizes:
        return f"{block.sizes[name]}, a size"
    if name == model.tokens.cols:
        return f"{model.tokens.count}, the number of tokens"
    raise CompilerBug(f"the scalar {name} of a derivation comes from nowhere")


# ---- functions -----------------------------------------------------------------------------------------------------


def _functions(derived: DerivedStep) -> Iterator[Entry]:
    """The atoms of the energy and the functions of the operator, by their usage."""
    trees = (energy_tree(derived), *(quantity.tree for quantity in derived.quantities))
    atoms = sorted({atom for tree in trees for atom in _atoms(tree)} - SPELLED_OUT)
    names = sorted({name for form in _forms(derived) for name in _names(form)} - set(atoms))
    for usage in [*(ATOMS[atom].usage for atom in atoms), *map(function_note, names)]:
        head, _, meaning = usage.partition(": ")
        yield Entry(head, meaning)


def function_note(name: str) -> str:
    if name not in FUNCTION_NOTES:
        raise CompilerBug(f"no words for the function {name}")
    return FUNCTION_NOTES[name]


def _atoms(tree: Tree) -> Iterator[str]:
    if isinstance(tree, Apply):
        yield tree.atom
    for child in children(tree):
        yield from _atoms(child)


def _names(form: Form) -> Iterator[str]:
    factors: list[Factor] = [factor for word in form.words for factor in word.factors]
    for factor in factors:
        if isinstance(factor, Function):
            yield factor.name
        for inner in inner_forms(factor):
            yield from _names(inner)
