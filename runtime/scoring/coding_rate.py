"""How much space features take: the coding rate of a set of vectors, and its effective rank."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def coding_rate(features: Tensor, distortion: float) -> Tensor:
    """Nats per vector that code features (..., n, d) up to a squared error: 1/2 logdet(I + d / (n distortion) F' F).

    `distortion` is eps^2 of the formula (Ma et al. 2007; Yu et al. 2020); the code of SimDINO passes its option `eps`
    there. Returns (...). The determinant is taken on the smaller side, in float32 at least also under autocast.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features if features.dtype == torch.float64 else features.float()
        count, width = features.shape[-2:]
        small = features if count <= width else features.mT
        gram = (width / (count * distortion)) * small @ small.mT
        gram = gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        return torch.linalg.cholesky_ex(gram).L.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # half of the logdet


def effective_rank(features: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values of (n, d) features of unit length; 1 = all are parallel.

    Source: Roy and Vetterli 2007; as a guard against collapse: RankMe (Garrido et al. 2023).
    """
    values = torch.linalg.svdvals(F.normalize(features.float(), dim=-1))
    return torch.special.entr(values / values.sum()).sum().exp()
