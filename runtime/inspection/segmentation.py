"""Objects in what a network attends to: masks from class-token maps, from components, and by normalised cuts.

Source: Yu, Chu, Tong, Wu, Pai, Buchanan and Ma, "Emergence of Segmentation with Minimalistic White-Box Transformers"
(arXiv 2308.16271); MaskCut is that of CutLER (Wang et al. 2023), without its conditional random field.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.ndimage
import torch
from torch import Tensor
from torch.nn import functional as F

SHARE = 0.6  # of the attention mass that a mask holds
TAU = 0.15  # affinities above count as links
OBJECTS = 3
LEAST = 0.01  # of the image, that a later object is larger than
LINKED, APART = 1.0, 1e-5  # weights of links, and of what is none, so that the graph stays connected


# ---- class-token maps ----------------------------------------------------------------------------------------------


def class_maps(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much of every patch is attended to, (batch, heads, rows, columns), from (batch, heads, N, N) weights.

    By the class token, which is the first and one more than there are patches; by all tokens on average without one.
    """
    has_class_token = weights.shape[-1] > grid[0] * grid[1]
    taken = weights[:, :, 0, 1:] if has_class_token else weights.mean(dim=2)
    return taken.unflatten(-1, grid)


def top_mass(maps: Tensor, share: float = SHARE) -> Tensor:
    """The fewest patches (..., rows, columns) that hold `share` of a map's mass.

    This is how DINO's code (Caron et al. 2021) keeps 60 % of the mass; the P = 60 % of 2308.16271 is read so.
    """
    flat = maps.flatten(-2)
    values, order = flat.sort(dim=-1, descending=True)
    held = values.cumsum(-1) / values.sum(-1, keepdim=True)
    kept = held - values / values.sum(-1, keepdim=True) < share  # the one that crosses the share is kept too
    return torch.zeros_like(kept).scatter(-1, order, kept).unflatten(-1, maps.shape[-2:])


def resized(masks: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boolean masks (..., rows, columns) at another size, by the nearest neighbour."""
    flat = masks.reshape(-1, 1, *masks.shape[-2:]).float()
    return (F.interpolate(flat, size=shape, mode="nearest") > 0.5).reshape(*masks.shape[:-2], *shape)


def iou(found: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of boolean masks (..., height, width); 0 where both are empty."""
    both = (found & masks).flatten(-2).sum(-1)
    either = (found | masks).flatten(-2).sum(-1)
    return both / either.clamp(min=1)


def coarse_ious(maps: Tensor, masks: Tensor) -> Tensor:
    """(batch, heads): every head's binarised map (batch, heads, rows, columns) beside masks (batch, height, width)."""
    found = resized(top_mass(maps), tuple(masks.shape[-2:]))
    return iou(found, masks.unsqueeze(1))


def coarse_iou(maps: Tensor, masks: Tensor) -> Tensor:
    """(batch,): that of the best head of every image, which is what the paper averages to its coarse mIoU."""
    return coarse_ious(maps, masks).amax(dim=1)


def centred_box(share: float, shape: tuple[int, int]) -> Tensor:
    """A boolean mask of the image's proportions around its centre that holds `share` of its pixels, rounded."""
    mask = torch.zeros(shape, dtype=torch.bool)
    height, width = (max(1, round(side * share**0.5)) for side in shape)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    mask[top : top + height, left : left + width] = True
    return mask


def ceiling(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """(images,): the largest IoU of masks (images, height, width), none empty, with a union of patches.

    A ratio of sums over the chosen patches is largest for some number of those that the mask covers most.
    """
    covered = F.adaptive_avg_pool2d(masks[:, None].double(), grid).flatten(1)
    both = covered.sort(dim=1, descending=True).values.cumsum(1)
    chosen = torch.arange(1, both.shape[1] + 1, device=masks.device)
    return (both / (chosen + covered.sum(1, keepdim=True) - both)).amax(1)


# ---- components of the projections ---------------------------------------------------------------------------------


def components(projections: np.ndarray, count: int) -> np.ndarray:
    """(tokens, count): coordinates along the largest principal components, of all tokens (tokens, features) together.

    The sign of a component means nothing; each is turned so that the smaller side of its zero is positive, since an
    object is mostly smaller than what is around it.
    """
    centred = projections - projections.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    found = left[:, :count] * values[:count]
    return found * np.where((found > 0).mean(axis=0) > 0.5, -1.0, 1.0)


# ---- normalised cuts -----------------------------------------------------------------------------------------------


def affinity(projections: np.ndarray) -> np.ndarray:
    """sum_k <U_k' z_i, U_k' z_j> of unit vectors (patches, K p): cosines, (patches, patches)."""
    lengths = np.linalg.norm(projections, axis=1, keepdims=True)
    units = projections / np.maximum(lengths, np.finfo(float).tiny)
    return units @ units.T


def mask_cut(similarity: np.ndarray, grid: tuple[int, int], objects: int = OBJECTS) -> list[np.ndarray]:
    """Boolean masks (rows, columns) of at most `objects` objects, each cut out of what the ones before left.

    Links are affinities above `TAU`. The second generalised eigenvector of (D - W) x = lambda D x is cut at its mean;
    the object is the side with the entry of largest modulus, or the other where that one holds most corners of the
    image, and of it the connected part with that entry. What has been found loses its links, and later objects of at
    most a hundredth of the image are none, as in CutLER's code. There the side also depends on the sign that the
    eigenvector happens to have; here it does not.
    """
    found: list[np.ndarray] = []
    painted = np.zeros(len(similarity), dtype=bool)
    for _ in range(objects):
        free = np.where(painted[:, None] | painted[None, :], 0.0, similarity)
        vector = second_eigenvector(np.where(free > TAU, LINKED, APART))
        mask = one_object(vector, painted, grid)
        if not mask.any() or (found and mask.mean() <= LEAST):
            break
        found.append(mask)
        painted |= mask.ravel()
    return found


def second_eigenvector(weights: np.ndarray) -> np.ndarray:
    """Of the normalised cut (Shi and Malik 2000)."""
    degrees = np.diag(weights.sum(axis=1))
    _, vectors = scipy.linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 1])
    return vectors[:, 0]


def one_object(vector: np.ndarray, painted: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The connected foreground of one cut, (rows, columns)."""
    side = vector > vector.mean()
    seed = int(np.abs(np.where(painted, 0.0, vector)).argmax())
    side = side if side[seed] else ~side
    corners = side.reshape(grid)[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.sum() > 2:  # an object seldom holds most corners
        side = ~side
        inside = np.where(side & ~painted, np.abs(vector - vector.mean()), -1.0)
        seed = int(inside.argmax())
    side = (side & ~painted).reshape(grid)
    labels, _ = scipy.ndimage.label(side)
    own = labels.ravel()[seed]
    return (labels == own) if own else np.zeros(grid, dtype=bool)
