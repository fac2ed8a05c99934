"""Official entries without a place in a compiled network, kept as text in the metadata of a safetensors file.

So the file holds exactly the tensors of its network, and whoever loads it need not know of the others.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from runtime.errors import UserError

KEY = "official_entries"
MAX_BYTES = 95_000_000  # of text: readers of safetensors take headers up to 100 MB


def packed(kept: Mapping[str, Tensor]) -> dict[str, str]:
    """The entries as metadata; nothing where there are none.

    Raises UserError where they are too many to be metadata.
    """
    if not kept:
        return {}
    content = safetensors.torch.save(
        {name: value.clone(memory_format=torch.contiguous_format) for name, value in kept.items()}
    )
    text = base64.b64encode(content).decode("ascii")
    if len(text) > MAX_BYTES:
        raise UserError(f"the entries without a place are too large to be kept: {len(text):,} of {MAX_BYTES:,} bytes")
    return {KEY: text}


def unpacked(metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The entries that `packed` made metadata of; raises UserError where the text is not of its making."""
    try:
        text = metadata.get(KEY, "")
        return safetensors.torch.load(base64.b64decode(text, validate=True)) if text else {}
    except (binascii.Error, SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"the official entries kept in the metadata cannot be read: {error}") from error
