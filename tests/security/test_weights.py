"""Files of weights that want more than to be weights: each is an error, and nothing else happens."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from runtime import convert
from runtime.storage import untrusted
from tests.runtime.conftest import SPECS
from tests.security.bounded import outcome

CRATE = (SPECS / "crate.crate").read_text(encoding="utf-8")
STEM, TOKEN = "to_patch_embedding.2.weight", "cls_token"
LAYER = "transformer.layers.99999999.0.fn.qkv.weight"


class Hostile:
    """Unpickled, it leaves a file where it stands."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch marker",)


@pytest.fixture(autouse=True)
def unmarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    yield
    found = {path.name for path in (*tmp_path.rglob("*"), *tmp_path.parent.glob("*"))}
    assert not {"marker", "out.safetensors", "out.pth"} & found


def archive(compression: int, change: Callable[[str, bytes], tuple[str, bytes]]) -> bytes:
    """A saved tensor, its records packed again."""
    saved, packed = io.BytesIO(), io.BytesIO()
    torch.save({TOKEN: torch.zeros(4)}, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(packed, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(*change(entry.filename, old.read(entry.filename)))
    return packed.getvalue()


def bomb(name: str, content: bytes) -> tuple[str, bytes]:
    return name, bytes(100 * 2**20) if name.endswith("data/0") else content


def outside(name: str, content: bytes) -> tuple[str, bytes]:
    return f"../marker/{name}", content


def overlapping() -> bytes:
    """Every record claims the whole file."""
    content = bytearray(archive(zipfile.ZIP_STORED, lambda name, content: (name, content)))
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 20 : place + 28] = struct.pack("<II", len(content), len(content))
        place = content.find(b"PK\x01\x02", place + 4)
    return bytes(content)


def saved(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def laughs() -> list:
    value: list = [torch.zeros(1)]
    for _ in range(60):
        value = [value, value]
    return value


OFFICIAL = {
    "pickle": (lambda: pickle.dumps({TOKEN: Hostile()}), "more than tensors and plain values"),
    "archive": (lambda: saved({"state_dict": Hostile()}), "more than tensors and plain values"),
    "legacy": (lambda: saved(Hostile(), _use_new_zipfile_serialization=False), "more than tensors and plain values"),
    "zip bomb": (lambda: archive(zipfile.ZIP_DEFLATED, bomb), "is a compressed archive"),
    "overlapping": (overlapping, "whose entries are larger than itself"),
    "paths": (lambda: archive(zipfile.ZIP_STORED, outside), "not a file of weights"),
    "cut off": (lambda: saved({TOKEN: torch.zeros(99)})[:-90], "not a file of weights"),
    "expanded": (lambda: saved({TOKEN: torch.zeros(1).expand(10**5, 10**5)}), "not stored entry by entry"),
    "sparse": (lambda: saved({STEM: torch.zeros(9, 9).to_sparse()}), "not stored entry by entry"),
    "nowhere": (lambda: saved({STEM: torch.zeros(9, 9, device="meta")}), "not stored entry by entry"),
    "repeated": (lambda: saved({"a": laughs(), TOKEN: torch.zeros(1)}), "no architecture known here"),
    "names": (lambda: saved({"\x1b[31m": torch.zeros(1), STEM: torch.zeros(1)}), "which is no name"),
    "layers": (lambda: saved({LAYER: torch.zeros(1), STEM: torch.zeros(1)}), f"unexpected: {LAYER}"),
    "complex": (
        lambda: saved({TOKEN: torch.zeros(1, dtype=torch.complex64), STEM: torch.zeros(1)}),
        "not real numbers",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", OFFICIAL)
def test_official_files(kind: str) -> None:
    make, says = OFFICIAL[kind]
    Path("official.pth").write_bytes(make())
    words = ["official.pth", SPECS / "crate.crate", "--preset", "digits", "-o", "out.safetensors"]
    found = outcome(convert.main, *words)
    found.refused(says)
    assert "weights_only" not in found.text, "torch advises to execute the file"


def test_what_is_no_file() -> None:
    os.mkfifo("pipe")
    for path in ("pipe", "/dev/zero"):
        outcome(convert.main, path, "-o", "out.safetensors").refused("is a pipe or a device")
        outcome(convert.main, path, "--to-official", "-o", "out.pth").refused("is a pipe or a device")
    outcome(convert.main, ".", "-o", "out.safetensors").refused("is a folder")
    outcome(convert.main, ".", "--to-official", "-o", "out.pth").refused("not the folder of a run")


def test_a_network_larger_than_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "memory", lambda: 2**30)
    Path("official.pth").write_bytes(saved({STEM: torch.zeros(1)}))
    words = ["official.pth", SPECS / "crate.crate", "--set", "d=12000", "K=10", "-o", "out.safetensors"]
    outcome(convert.main, *words).refused("tokens take 19 GB, this machine has 1 GB")


# ---- safetensors -------------------------------------------------------------------------------------------------


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


BROKEN = {
    "length": raw(b"{}", length=2**63),
    "length beyond the file": raw(b"{", length=99_000_000),
    "overlap": raw({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "shape": raw({"a": entry([2**40, 2**40], 0, 8)}, bytes(8)),
    "backwards": raw({"a": entry([2], 8, 0)}, bytes(8)),
    "cut off": raw({"a": entry([2], 0, 8)}, bytes(4)),
    "nested": raw(b"[" * 100_000),
    "no text": raw(b"\xff" * 100),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_headers(kind: str) -> None:
    Path("ours.safetensors").write_bytes(BROKEN[kind])
    outcome(convert.main, "ours.safetensors", "--to-official", "-o", "out.pth").refused("not a readable safetensors")


METADATA = {
    "tokens": ({"spec": CRATE, "sizes": '{"image": 1000000, "patch": 1}'}, "at most 1,000,000 tokens"),
    "positions": ({"spec": CRATE, "sizes": '{"image": 8000, "patch": 16}'}, "fewer than the positions"),
    "layers": ({"spec": CRATE, "sizes": '{"L": 1000000000}'}, "would be 1000000000"),
    "exponent": ({"spec": CRATE, "sizes": '{"d": 1e999}'}, "no sizes that can be read"),
    "digits": ({"spec": CRATE, "sizes": '{"d": ' + "9" * 5000 + "}"}, "no sizes that can be read"),
    "nesting": ({"spec": CRATE, "sizes": "[" * 100_000}, "no sizes that can be read"),
    "kind": ({"spec": CRATE, "sizes": '{"d": [1]}'}, "no sizes that can be read"),
    "preset": ({"spec": CRATE, "preset": "__class__"}, "unknown preset"),
    "path": ({"spec": 'network X\ninclude "/etc/passwd"\n'}, "not a path that can be included"),
    "folder": ({"spec": 'network X\ninclude "mine.crate"\n'}, "lies in no folder"),
    "deep spec": ({"spec": "network X\nenergy e(Z: d x N) = " + "(" * 5000 + "1" + ")" * 5000}, "at most 100 levels"),
    "terminal": ({"spec": 'network \x1b[31m "x"'}, "does not compile"),
    "altered": ({"spec": CRATE, "spec_sha256": "0" * 64}, "the file was altered"),
    "none": ({}, "does not say which network"),
}


@pytest.mark.parametrize("kind", METADATA)
def test_hostile_metadata(kind: str) -> None:
    about, says = METADATA[kind]
    signed = {"spec_sha256": hashlib.sha256(about.get("spec", "").encode()).hexdigest()} | about
    safetensors.torch.save_file({"a": torch.zeros(2)}, "ours.safetensors", metadata=signed)
    found = outcome(convert.main, "ours.safetensors", "--to-official", "-o", "out.pth")
    found.refused(says)
    assert "\x1b" not in found.text
