"""What is asked of a file before it is read: that it is a file, of a sensible size, and no more than it says."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.errors import UserError

MAX_TEXT = 10_000_000  # bytes of a spec, or of a written module
ENCRYPTED = 0x1  # the flag of an entry in an archive


def require_file(path: Path, most: int | None = None) -> None:
    """Raises UserError for what is no file: a folder, a device, a pipe, on which reading would wait or never end.

    Args:
        path: links are followed.
        most: bytes that it may have.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise UserError(f"{path}: is {kind}, not a file")
    if most is not None and found.st_size > most:
        raise UserError(f"{path}: has {found.st_size:,} bytes; at most {most:,} are read")


def read_text(path: Path, most: int = MAX_TEXT) -> str:
    """A whole UTF-8 text.

    Raises UserError for a device, a pipe and a file that is too large; OSError and UnicodeDecodeError for one that
    cannot be read, so that the caller says what it should have been.
    """
    if path.exists() and not path.is_dir():
        require_file(path, most)
    return path.read_text(encoding="utf-8")


def memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_stored(path: Path) -> None:
    """Raises UserError for an archive that would unpack to more than it is: torch writes its files uncompressed."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"{path}: is a broken archive: {error}") from None
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED for entry in entries):
        raise UserError(f"{path}: is a compressed archive; torch writes its files uncompressed and in the clear")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise UserError(f"{path}: is an archive whose entries are larger than itself")


def require_plain(path: Path, content: Any) -> None:
    """Raises UserError for tensors that are not what they say, anywhere in what was read.

    A tensor of one number can claim a million rows of it, and takes the memory of all once something is made of it;
    sparse, quantised and meta tensors make others fail in places that do not expect them.
    """
    for value in tensors_in(content):
        plain = value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu"
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{path}: holds a tensor that is not stored entry by entry; only plain ones are read")


def tensors_in(content: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers, each once, however often and deeply it is contained."""
    pending, seen = [content], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            pending += value
