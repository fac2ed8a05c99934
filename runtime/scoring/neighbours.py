"""How good features are without training anything on them: weighted k-nearest-neighbour classification.

The protocol is that of DINO (Caron et al. 2021; Wu et al. 2018): features of unit length; the k = 20 training images
most similar to an image by cosine vote for their class with weight exp(similarity / 0.07). Training images are taken
as they are, unaugmented, in their own order.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = 20
TEMPERATURE = 0.07


def votes(distances: np.ndarray) -> np.ndarray:
    """The weights of neighbours at cosine distances 1 - similarity; the nearest possible one weighs 1."""
    return np.exp(-distances / TEMPERATURE)


class Neighbours:
    """Training features (n, d) with their classes (n,), to be asked for the classes of others."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        count = min(NEIGHBOURS, len(features))
        self.classifier = KNeighborsClassifier(count, metric="cosine", algorithm="brute", weights=votes)
        self.classifier.fit(as_array(features), labels.cpu().numpy())

    def nearest(self, features: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each of the features (n, d) the `count` training features nearest to it, or all where there are fewer.

        Returns cosine distances and places in the order of the training features, (n, count) each, the nearest first.
        """
        count = min(count, self.classifier.n_samples_fit_)
        return self.classifier.kneighbors(as_array(features), count)

    def right(self, features: Tensor, labels: Tensor) -> Tensor:
        """1 where the neighbours of features (n, d) vote for the label, (n,)."""
        guesses = self.classifier.predict(as_array(features))
        return labels.new_tensor(guesses).eq(labels).float()


def as_array(features: Tensor) -> np.ndarray:
    return F.normalize(features.detach().double(), dim=-1).cpu().numpy()
