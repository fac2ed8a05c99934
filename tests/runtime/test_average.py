"""The averaged weights."""

from __future__ import annotations

import torch
from torch import nn

from runtime.training.average import Average


def test_the_average_follows_and_forgets_its_start() -> None:
    network = nn.Linear(2, 1)
    average = Average(network, 0.5)
    expected = network.weight.detach().clone()
    for update in range(4):
        with torch.no_grad():
            network.weight.add_(1.0)
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * network.weight.detach()
    assert torch.allclose(average.values["weight"], expected)
    other = Average(nn.Linear(2, 1), 0.5)
    other.load_state_dict(average.state_dict())
    assert other.updates == 4 and torch.equal(other.values["bias"], average.values["bias"])
