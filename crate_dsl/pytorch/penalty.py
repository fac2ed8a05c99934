"""The energies of a loss in the written file: a method where they are evaluated, and their way through the network."""

from __future__ import annotations

from crate_dsl.errors import fail
from crate_dsl.language.model import LearnedScalar
from crate_dsl.library.scalars import base_name
from crate_dsl.mathematics.penalty import formulas
from crate_dsl.operators.program import BlockProgram, PenaltyProgram, Program
from crate_dsl.operators.uses import parameters_of, step_parameters, step_scalars
from crate_dsl.operators.verify import coefficient_symbols
from crate_dsl.pytorch.body import Body, Class
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.lines import docstring, indented, wrapped
from crate_dsl.pytorch.names import Names
from crate_dsl.pytorch.parameters import attribute, scalar_attribute


class PenaltyWriter:
    """Writes the penalties of a network; false where its loss has none."""

    about = "What `forward` gives, and the penalty that the loss adds, a mean over the batch."

    def __init__(self, program: Program, file: File) -> None:
        self._file, self._tokens = file, program.derivation.model.tokens
        self._of = {penalty.derived.block.role if penalty.derived.block else None: penalty
                    for penalty in program.penalties}  # fmt: skip

    def __bool__(self) -> bool:
        return bool(self._of)

    # ---- in the forward pass ------------------------------------------------------------------------------------

    def of_layer(self, stage: str) -> list[str]:
        """Inside the loop over the layers of a stage."""
        if stage not in self._of:
            return []
        return [f"    penalty = penalty + layer.penalty(z).mean() / len(self.{stage})"]

    def of_head(self, tokens: str) -> list[str]:
        return [f"penalty = penalty + self.penalty({tokens}).mean()"] if None in self._of else []

    # ---- the method ---------------------------------------------------------------------------------------------

    def method(self, block: BlockProgram | None) -> list[str]:
        """The penalty of a layer (without a block: of the network) after an empty line; nothing where there is none."""
        penalty = self._of.get(block.block.role if block else None)
        if penalty is None:
            return []
        names = Names(self._file.names)
        z = names.new(self._tokens.name.lower())
        where = "that leave the layer" if block else "that the head reads"
        about = f"The weighted energies of the loss, of the tokens {where}: one number per image, (batch,)."
        head = f"def penalty(self, {z}: Tensor) -> Tensor:  # (batch, {self._tokens.cols}, {self._tokens.rows})"
        body = [*docstring([about]), *self._body(penalty, block, names, z)]
        formula = (f"# {line}" for text in formulas(penalty.derived) for line in wrapped(text))
        return ["", *formula, head, *indented(body)]

    def _body(self, penalty: PenaltyProgram, block: BlockProgram | None, names: Names, z: str) -> list[str]:
        """In full precision, whatever surrounds it: what training adds up must not be rounded to eight bits."""
        holders, scalars = self._held(block)
        read = parameters_of(penalty.graph)
        local = {name: names.new(name) for name in dict.fromkeys(read)}
        for name in (name for name in [*read, *self._learned(penalty)] if name not in holders):
            hint = "a loss has no learned numbers or matrices of its own"
            raise fail(f'no step of this network keeps "{name}"', penalty.derived.penalties[0].span, hint)
        owner = Class(block.block if block else None, self._file.constants, holders, scalars, self._file.helpers, local)
        self._file.helpers.add("at_least_float32")
        widened = {z: z, **{variable: f"self.{holders[name]}" for name, variable in local.items()}}
        counted = self._file.counted(self._tokens.cols, z)
        body = Body(penalty.graph, owner, names, {self._tokens.name: z}, precise=True, counted=counted)
        return [
            f"with torch.autocast({z}.device.type, enabled=False):  # at least float32",
            *(f"    {variable} = at_least_float32({value})" for variable, value in widened.items()),
            *body.lines(),
        ]

    def _held(self, block: BlockProgram | None) -> tuple[dict[str, str], dict[str, LearnedScalar]]:
        """The attributes that hold what a layer learns, seen from the layer, and its learned scalars."""
        holders: dict[str, str] = {}
        scalars: dict[str, LearnedScalar] = {}
        for step in block.steps if block else ():
            label = step.derived.step.label
            for parameter, _ in step_parameters(step):
                holders.setdefault(parameter.name, f"{label}.{attribute(parameter.name)}")
            for scalar in step_scalars(step, self._file.model):
                scalars.setdefault(scalar.name, scalar)
                holders.setdefault(scalar.name, f"{label}.{scalar_attribute(scalar)}")
        return holders, scalars

    def _learned(self, penalty: PenaltyProgram) -> list[str]:
        """The learned scalars of a penalty."""
        block = penalty.derived.block
        known = {scalar.name for scalar in (*self._file.model.scalars, *(block.scalars if block else ()))}
        return sorted(known & {base_name(symbol) for symbol in coefficient_symbols(penalty.graph)})
