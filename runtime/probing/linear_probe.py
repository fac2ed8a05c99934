"""A linear classifier on frozen features: multinomial logistic regression, its strength chosen on training data alone.

Features are standardised by mean and deviation of the training images; an L2 penalty of strength 1/C is added to the
cross-entropy, C being what classifies best a fifth of the training images held back for this choice (of equals the most
likely); it grows until two in a row are no better, since the weakest penalties take longest. The classifier is then
fitted to all training images. Held-out images have no say in any of it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from runtime.errors import UserError
from runtime.probing.features import Features

STRENGTHS = tuple(10.0**power for power in range(-4, 4))  # of C
PATIENCE = 2  # strengths in a row that are no better, after which no weaker penalty is tried
CHOSEN_ON = 0.2  # of the training images
ITERATIONS = 1000  # of L-BFGS


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: `strength` is C, `converged` whether L-BFGS came to its end."""

    classifier: Pipeline
    converged: bool
    strength: float

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """The share of (n, d) features whose class is found."""
        return float(self.classifier.score(features.double().numpy(), labels.numpy()))


def fitted(train: Features) -> LinearProbe:
    """A probe of training features; raises UserError where there are too few images or classes to choose C on."""
    features, labels = train[0].double().numpy(), train[1].numpy()
    try:
        parts = train_test_split(features, labels, test_size=CHOSEN_ON, random_state=0, stratify=labels)
        strength = chosen(*parts)
        return LinearProbe(*fit(features, labels, strength), strength)
    except ValueError as error:
        raise UserError(f"the training images do not allow a linear probe: {error}") from None


def chosen(features: np.ndarray, others: np.ndarray, labels: np.ndarray, other_labels: np.ndarray) -> float:
    """The C whose classifier of the first images is best on the others."""
    best, strength, worse = (-np.inf, -np.inf), STRENGTHS[0], 0
    for c in STRENGTHS:
        found = quality(fit(features, labels, c)[0], others, other_labels)
        if found > best:
            best, strength, worse = found, c, 0
        elif (worse := worse + 1) == PATIENCE:
            break
    return strength


def quality(classifier: Pipeline, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy, and among equals the likelihood: features of a supervised network are separable at any strength."""
    likelihood = -log_loss(labels, classifier.predict_proba(features), labels=classifier.classes_)
    return classifier.score(features, labels), likelihood


def fit(features: np.ndarray, labels: np.ndarray, strength: float) -> tuple[Pipeline, bool]:
    """The classifier for one C, and whether it converged."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=ITERATIONS))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # told in the result instead
        classifier.fit(features, labels)
    return classifier, int(classifier[-1].n_iter_.max()) < ITERATIONS
