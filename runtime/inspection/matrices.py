"""Which matrices of a step are subspaces, which a dictionary, and which took the place of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn

from crate_dsl import Compilation
from crate_dsl.language.model import ONE, Parameter
from runtime.inspection.places import Place, places


@dataclass(frozen=True)
class Found:
    """A matrix d x m or a family K x d x p of one step of one layer; `label` names both."""

    label: str
    place: Place
    parameter: Parameter
    value: np.ndarray


def is_family(place: Place, parameter: Parameter) -> bool:
    """A learned family of d x p that reads the tokens, such as U."""
    return bool(parameter.shape.family) and is_learned(place, parameter)


def is_dictionary(place: Place, parameter: Parameter) -> bool:
    """A learned d x m of an energy whose unknown takes the place of the tokens: D, and not the read-out of a code."""
    stated = place.derived.step.unknown is not None and parameter.name in place.derived.step.actuals.values()
    return stated and not parameter.shape.family and is_learned(place, parameter)


def is_learned(place: Place, parameter: Parameter) -> bool:
    """A learned matrix that has the features as its rows and is of the energy itself."""
    rows = parameter.shape.rows == place.compilation.model.tokens.rows
    return rows and parameter.shape.cols != ONE and parameter.origin is None and not parameter.fitted


def is_freed(place: Place, parameter: Parameter) -> bool:
    """A matrix that an approximation or a read-out put in the place of another one: U_out, D1."""
    return parameter.shape.cols != ONE and freed_from(place, parameter) is not None


def freed_from(place: Place, parameter: Parameter) -> Parameter | None:
    """The matrix in whose place it is, of the same shape; None where it is in nobody's."""
    if parameter.name == place.derived.step.read:
        stated = [p for p in place.parameters if is_dictionary(place, p)]
        return next((p for p in stated if p.name != parameter.name and p.shape == parameter.shape), None)
    return next((p for p in place.parameters if p.name == parameter.origin and p.shape == parameter.shape), None)


def found(compilation: Compilation, network: nn.Module, kind: Callable[[Place, Parameter], bool]) -> Iterator[Found]:
    """All matrices of a kind along depth."""
    for place in places(compilation, network):
        chosen = [parameter for parameter in place.parameters if kind(place, parameter)]
        for parameter in chosen:
            label = place.name if len(chosen) == 1 else f"{place.name} {parameter.name}"
            yield Found(label, place, parameter, place.matrix(parameter))
