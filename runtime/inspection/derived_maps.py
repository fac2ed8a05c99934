"""What a derived step takes of which token, read off its own formula: the factor of the size N x N in its words.

For a softmax it is the attention map; for an exact step the inverse (I + a G_k)^-1; for token statistics the diagonal
of memberships. It is there for every step that mixes tokens, fused attention or not.
"""

from __future__ import annotations

import numpy as np
import sympy
import torch
from torch import Tensor

from crate_dsl.library.form import Diagonal, Factor, Form, Function, Inverse, Word
from crate_dsl.mathematics.evaluate import execute, form_value
from runtime.errors import Inapplicable
from runtime.inspection.places import Place, columns


def token_factor(place: Place) -> tuple[int, Word, Factor]:
    """The first word of the last assignment that has a factor of the size tokens x tokens, and the assignment's number.

    Raises Inapplicable where there is none.
    """
    axis = place.derived.raw.cols
    for number, assignment in reversed(list(enumerate(place.derived.assignments))):
        for word in assignment.value.words:
            for factor in word.factors:
                if isinstance(factor, Function | Inverse | Diagonal) and factor.shape == (axis, axis):
                    return number, word, factor
    raise Inapplicable("no step of this network mixes tokens by a matrix of their own")


def kind_of(place: Place) -> str:
    """What the factor is, in words."""
    *_, factor = token_factor(place)
    if isinstance(factor, Inverse):
        return "modulus of the inverse (I + a G)^-1"
    return "memberships" if isinstance(factor, Diagonal) else f"{factor.name} of the Gram"


def factor_values(place: Place, tokens: np.ndarray) -> np.ndarray:
    """(heads, N, N) at the tokens (d, N) as the step reads them; the entry j, i is what token i takes of token j."""
    number, word, factor = token_factor(place)
    point = execute(place.derived.assignments[:number], place.point(tokens))
    form = Form.of(*factor.shape, [Word(sympy.Integer(1), (factor,))])
    if not word.over:
        return form_value(form, point)[None]
    ((index, family),) = word.over
    return np.stack([form_value(form, point.at(index, k)) for k in range(point.size(family))])


def derived_maps(place: Place, tokens: Tensor) -> Tensor:
    """Weights (batch, heads, N, N), none negative, of tokens (batch, N, d) that come into the step.

    Row i holds what token i takes of every token, as attention maps do; of a diagonal factor, which lets no token take
    of another, every row is the diagonal.
    """
    diagonal = isinstance(token_factor(place)[-1], Diagonal)
    found = []
    for each in columns(place.read(tokens)):
        values = np.abs(factor_values(place, each))
        if diagonal:
            values = np.broadcast_to(np.diagonal(values, axis1=1, axis2=2)[:, :, None], values.shape)
        found.append(torch.as_tensor(values.swapaxes(-1, -2).copy()))
    return torch.stack(found)
