"""Files that are either whole or absent: training state and weights, loaded without executing anything."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from runtime.errors import UserError
from runtime.storage import untrusted

UMASK = os.umask(0)
os.umask(UMASK)
FORMATS = (1, 2)  # of training states that can be read; 1 held the state of global generators as well


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one step.

    A crash at any moment leaves the file that was there before. Raises UserError when the disk refuses.
    """
    if not path.name or path.is_dir():
        raise UserError(f"{path}: is a folder; the name of a file is needed")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.chmod(0o666 & ~UMASK)  # safetensors leaves a file to its owner alone
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error}); what was there before is untouched") from error


def replace_text(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Put a training state in its place; the one that was there is kept as the one before."""

    def write(temporary: Path) -> None:
        torch.save(dict(state), temporary)
        if path.exists():  # a crash between the two renamings leaves the one before alone, which is then the latest
            os.replace(path, before(path))

    replace_file(path, write)


def before(path: Path) -> Path:
    """Where the state lies that was saved before the latest."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


def load_state(path: Path) -> tuple[dict[str, Any], str]:
    """The latest training state that is whole, and a note where that is not the latest one; only data are accepted.

    Raises UserError where neither the latest nor the one before can be read.
    """
    try:
        return read_state(path), ""
    except UserError as error:
        if not before(path).exists():
            raise
        state = read_state(before(path))
        return state, f"{error}; going on from the checkpoint before it, {before(path).name}"


def read_state(path: Path) -> dict[str, Any]:
    """One file; its checksums are compared, which torch's reader does not do."""
    complaint = f"{path}: not a readable training state"
    untrusted.require_file(path)
    untrusted.require_stored(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{complaint}: {error}") from None
    if damaged:
        raise UserError(f"{complaint}: the checksum of {damaged} is wrong")
    state = load_torch(path, complaint)
    if not isinstance(state, dict) or state.get("format") not in FORMATS:
        raise UserError(f"{complaint}: of a format that this version does not know")
    return state


def load_torch(path: Path, complaint: str) -> Any:
    """`torch.load` restricted to data; raises UserError with the complaint where that fails."""
    untrusted.require_file(path)
    untrusted.require_stored(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch remarks on old pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words advise to execute the file
        raise UserError(f"{complaint}: it is damaged, or holds more than tensors and plain values") from error
    except Exception as error:  # arbitrary bytes make torch's reader fail in arbitrary ways
        reason = str(error).split("\n")[0]
        raise UserError(f"{complaint}: {reason}") from error
    untrusted.require_plain(path, content)
    return content


def save_weights(path: Path, weights: Mapping[str, Tensor], origin: Mapping[str, str]) -> None:
    """Weights as safetensors with the text of the spec in the metadata: the file says which network it is.

    What layers share is written under each of its names: the format knows no aliases, and readers look for all names.
    """
    tensors: dict[str, Tensor] = {}
    written: set[int] = set()  # storages
    for name, value in weights.items():
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if place in written else tensor
        written.add(place)
    replace_file(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata=dict(origin)))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and their origin."""
    untrusted.require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file: {error}") from error
