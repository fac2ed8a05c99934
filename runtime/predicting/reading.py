"""Pictures that a user names, as a network reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from runtime.data.source import DataSource
from runtime.errors import UserError
from runtime.network import Shape
from runtime.reading.readable import load, undecoded


def opened(file: Path) -> Image.Image:
    """A decoded picture; raises UserError for what is none, is broken, or is too large to be one in good faith."""
    try:
        with undecoded(file) as picture:
            return load(picture)
    except FileNotFoundError:
        raise UserError(f"{file}: no such picture") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what pillow's decoders raise
        raise UserError(f"{file}: not a readable picture: {error}") from None


def batch_of(files: Sequence[Path], source: DataSource, shape: Shape) -> Tensor:
    """The pictures as the held-out ones of `source` are prepared, (pictures, channels, height, width)."""
    return torch.stack([source.prepared(opened(file), shape) for file in files])
