"""How inverses, solves and log-determinants are written in torch; part of `spelling.py`'s registry."""

from __future__ import annotations

from crate_dsl.operators.graph import Operator
from crate_dsl.pytorch.expressions import ATOM, PRODUCT, Code
from crate_dsl.pytorch.spelling import Speaker, spell


@spell("inverse", "inverse", always=True)
def _inverse(op: Operator, speaker: Speaker) -> Code:
    return Code(f"torch.linalg.inv({speaker.code(op.inputs[0], False).text})")


@spell("solve", "solution", always=True)
def _solve(op: Operator, speaker: Speaker) -> Code:
    """By Cholesky where the matrix is positive definite; `cholesky_ex` neither raises nor waits for a GPU."""
    matrix, right = (speaker.code(n, False, op.type) for n in op.inputs)
    if op.attributes[0]:
        text = f"torch.cholesky_solve({right.text}, torch.linalg.cholesky_ex({matrix.text}).L)"
    else:
        text = f"torch.linalg.solve({matrix.text}, {_as_matrices(op, right, speaker)})"
    return Code(f"{text}.mT", ATOM, True) if speaker.flipped(op.type) else Code(text)


def _as_matrices(op: Operator, right: Code, speaker: Speaker) -> str:
    """The right side of a solve, of as many axes as the matrix.

    With one less, `torch.linalg.solve` takes it for vectors where all sizes happen to be alike.
    """
    kinds = [speaker.operator(n).type for n in op.inputs]
    of_matrix, of_right = (2 if k.batch and op.type.family else bool(k.batch) + bool(k.family) for k in kinds)
    return f"{right.at(ATOM)}.unsqueeze(0)" if of_matrix == of_right + 1 else right.text


@spell("logdet", "logdet")
def _logdet(op: Operator, speaker: Speaker) -> Code:
    """Twice the log-diagonal of the Cholesky factor where the matrix is positive definite."""
    matrix = speaker.code(op.inputs[0], False).text
    if op.attributes[0]:
        return Code(f"2 * torch.linalg.cholesky_ex({matrix}).L.diagonal(dim1=-2, dim2=-1).log().sum(-1)", PRODUCT)
    return Code(f"torch.logdet({matrix})")


@spell("gram_solve", "solution", always=True)
def _gram_solve(op: Operator, speaker: Speaker) -> Code:
    """With tokens as rows: every row by the inverse of their Gram matrix."""
    shift, scale = (speaker.scalar(c, op.type).text for c in op.attributes[0])
    value = speaker.code(op.inputs[0], True).text
    return Code(f"{speaker.helper('gram_solve')}({value}, {shift}, {scale})", ATOM, True)
