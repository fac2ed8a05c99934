"""Learned matrices and scalars as `nn.Parameter`s: storage, and how each starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from crate_dsl.language.model import ONE, LearnedScalar, Parameter, Word
from crate_dsl.library.form import Form, Leaf, leaves
from crate_dsl.mathematics.derivation import DerivedStep
from crate_dsl.pytorch.names import mangle

# What `nn.Module` itself has: a learned `float` would break it.
MODULE = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children code compile cpu cuda double dump_patches
    energies energy eval extra_repr float fold forward get_buffer get_extra_state get_parameter get_submodule half ipu
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters norm parameters
    register_buffer register_module register_parameter requires_grad_ set_extra_state set_submodule share_memory
    state_dict to to_empty train training type xpu zero_grad
    """.split()  # noqa: SIM905
)


def attribute(name: str) -> str:
    """The attribute that holds a parameter of this name."""
    return mangle(name, MODULE)


def scalar_attribute(scalar: LearnedScalar) -> str:
    return attribute(scalar.name if scalar.lower is None else f"log_{scalar.name}")


def scalar_line(scalar: LearnedScalar, size: str | None) -> str:
    """The parameter of a learned scalar, at its start value; `size` is the number of heads where there is one each."""
    start = scalar.start - (scalar.lower or 0)
    value = f"torch.full(({size},), {_number(start)})" if size else f"torch.tensor({_number(start)})"
    text = value if scalar.lower is None else f"{value}.log()"
    return f"self.{scalar_attribute(scalar)} = nn.Parameter({text})"


def _number(value: Fraction) -> str:
    return repr(float(value))


class Start:
    """Where the parameters of a step start: the stated rule, or the default of the kind, that of the official code."""

    def __init__(self, step: DerivedStep, size: Callable[[str], str]) -> None:
        self._forms = [assignment.value for assignment in step.assignments]
        self._parameters = {p.name: p for p in step.parameters}
        self._size = size

    def lines(self, parameter: Parameter, trained: bool = True) -> list[str]:
        """The declaration and its initialisation; an energy alone may read a parameter, which is then not trained."""
        own, shape = f"self.{attribute(parameter.name)}", parameter.shape
        is_vector = shape.cols == ONE and not shape.family
        rows, cols = self._size(shape.rows), "" if is_vector else self._size(shape.cols)
        stacked = self._size(shape.family) if shape.family else ""
        if shape.family and shape.cols != ONE:
            stacked = f"{stacked} * {cols}"
        stored = f"{stacked}, {rows}" if shape.family else rows if is_vector else f"{rows}, {cols}"
        comment = f"  # {shape}, transposed and stacked" if shape.family else ""
        if parameter.fitted:
            name, numbers = attribute(parameter.name), (shape.rows, shape.cols) == (ONE, ONE)
            stored = (self._size(shape.family) if shape.family else "()") if numbers else stored
            return [f'self.register_buffer("{name}", torch.zeros({stored}))  # {shape}, set by fit']
        frozen = "" if trained else ", requires_grad=False"
        line = f"{own} = nn.Parameter(torch.empty({stored}){frozen}){comment}"
        default = "linear" if shape.family or is_vector else "kaiming"
        word = parameter.init or Word(default)
        if is_vector:
            return [line, _vector_line(own, word, self._vector_fan(parameter))]
        return [line, _matrix_line(own, word, self._fan(parameter), self._is_outer(parameter))]

    def _is_outer(self, parameter: Parameter) -> bool:
        """A family that maps back to the tokens, and is never used transposed: `U_out[k]`."""
        uses = [leaf for form in self._forms for leaf in leaves(form) if leaf.name == parameter.name]
        return bool(parameter.shape.family) and not any(leaf.transposed for leaf in uses)

    def _fan(self, parameter: Parameter) -> str:
        """The number of features that one output entry sums over."""
        shape = parameter.shape
        if not shape.family:
            return self._size(shape.cols)
        return self._stacked(parameter) if self._is_outer(parameter) else self._size(shape.rows)

    def _stacked(self, parameter: Parameter) -> str:
        return f"({self._size(parameter.shape.family)} * {self._size(parameter.shape.cols)})"

    def _vector_fan(self, parameter: Parameter) -> str:
        """That of the map that a bias belongs to; without one, its own length."""
        for form in self._forms:
            if any(leaf.name == parameter.name for leaf in leaves(form)):
                for outer in _leftmost(form):
                    held = self._parameters.get(outer.name)
                    if held and held.shape.family:
                        return self._stacked(held)
        return self._size(parameter.shape.rows)


def _leftmost(form: Form) -> Iterator[Leaf]:
    for word in form.words:
        if word.factors and isinstance(word.factors[0], Leaf):
            yield word.factors[0]


def _matrix_line(own: str, word: Word, fan: str, outer: bool) -> str:
    match word.name:
        case "linear":
            return _uniform_line(own, fan)
        case "kaiming":
            mode = ', mode="fan_out"' if outer else ""
            return f"nn.init.kaiming_uniform_({own}{mode})"
    return initialised(own, word)


def _uniform_line(own: str, fan: str) -> str:
    """The default of torch's linear maps: bound 1 / sqrt(fan_in)."""
    bound = f"{fan}**-0.5" if fan.isidentifier() else f"{fan} ** -0.5"
    return f"nn.init.uniform_({own}, -({bound}), {bound})"


def _vector_line(own: str, word: Word, fan: str) -> str:
    """Vectors have no fans of their own in torch."""
    if word.name in ("linear", "kaiming", "xavier", "orthogonal"):
        return _uniform_line(own, fan)
    return initialised(own, word)


def initialised(own: str, word: Word) -> str:
    """The call that a rule's word stands for, for what torch sees as the weight of a linear map.

    Every word of the library's `inits` but `linear`, which is what torch does by itself, has an entry here.
    """
    match word.name:
        case "normal":
            return f"nn.init.normal_({own}, std={_number(Fraction(word.arguments[0]))})"
        case "orthogonal":
            return f"nn.init.orthogonal_({own})"
        case "xavier":
            return f"nn.init.xavier_uniform_({own})"
        case "kaiming":
            return f"nn.init.kaiming_uniform_({own})"
        case "zeros":
            return f"nn.init.zeros_({own})"
        case "constant":
            return f"nn.init.constant_({own}, {_number(Fraction(word.arguments[0]))})"
    return ""
