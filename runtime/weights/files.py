"""Official files: read without executing anything, written so that the official code reads them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from runtime.errors import UserError
from runtime.network import plain_names
from runtime.storage import checkpoint

WRAPPERS = ("state_dict", "model", "net")  # under which training scripts keep the weights


def read_official(path: Path) -> dict[str, Tensor]:
    """A state dict, bare or wrapped; nothing in the file is executed.

    Raises UserError for whatever is no state dict of plain tensors.
    """
    content = checkpoint.load_torch(path, f"{path}: not a file of weights that can be loaded without running code")
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict, neither itself nor under {' or '.join(WRAPPERS)}")
    if strange := next((name for name in content if not str(name).isprintable()), None):
        raise UserError(f"{path}: an entry is called {strange!r}, which is no name")
    tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    return plain_names(tensors)


def write_official(path: Path, state: Mapping[str, Tensor]) -> None:
    """A plain state dict, whole or not at all."""
    content = OrderedDict((name, value.detach().cpu()) for name, value in state.items())
    checkpoint.replace_file(path, lambda temporary: torch.save(content, temporary))
