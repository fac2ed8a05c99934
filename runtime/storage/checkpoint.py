"""Files that are either whole or absent: training state and weights, loaded without executing anything."""

from __future__ import annotations

import os
import pickle
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from runtime.errors import UserError
from runtime.storage import untrusted


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one step.

    A crash at any moment leaves the file that was there before. Raises UserError when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error}); what was there before is untouched") from error


def replace_text(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    replace_file(path, lambda temporary: torch.save(dict(state), temporary))


def load_state(path: Path) -> dict[str, Any]:
    """A training state; only tensors and plain values are accepted."""
    return load_torch(path, f"{path}: not a readable training state")


def load_torch(path: Path, complaint: str) -> Any:
    """`torch.load` restricted to data; raises UserError with the complaint where that fails."""
    untrusted.require_file(path)
    untrusted.require_stored(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch remarks on old pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words advise to execute the file
        raise UserError(f"{complaint}: it holds more than tensors and plain values") from error
    except Exception as error:  # arbitrary bytes make torch's reader fail in arbitrary ways
        reason = str(error).split("\n")[0]
        raise UserError(f"{complaint}: {reason}") from error
    untrusted.require_plain(path, content)
    return content


def save_weights(path: Path, weights: Mapping[str, Tensor], origin: Mapping[str, str]) -> None:
    """Weights as safetensors with the text of the spec in the metadata: the file says which network it is."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    replace_file(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata=dict(origin)))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and their origin."""
    untrusted.require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file: {error}") from error


def random_state() -> dict[str, Any]:
    """The global generators. Training itself draws none of its numbers from them, but a network may."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.as_tensor(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
