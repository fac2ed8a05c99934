"""Files are whole or absent, and loading them executes nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from runtime.errors import UserError
from runtime.storage import checkpoint


class Hostile:
    """Unpickling it would make a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("hostile",)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    checkpoint.save_state(path, {"format": 2, "step": 1})

    def half(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device.*untouched"):
        checkpoint.replace_file(path, half)
    assert checkpoint.load_state(path) == ({"format": 2, "step": 1}, "")
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_an_unwritable_place_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        checkpoint.replace_text(tmp_path / "absent" / "file", "text")


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_hostile_files_are_refused(protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.pt"
    if protocol == "torch":
        torch.save({"step": Hostile()}, path)
    else:
        path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UserError, match="not a readable training state"):
        checkpoint.load_state(path)
    assert not Path("hostile").exists()


def test_weights_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save_weights(path, {"U": torch.eye(3)[:, :2]}, {"spec": "network A", "format": "pt"})
    weights, origin = checkpoint.load_weights(path)
    assert torch.equal(weights["U"], torch.eye(3)[:, :2])
    assert origin["spec"] == "network A"
    path.write_bytes(b"\0" * 20)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        checkpoint.load_weights(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for place in (Path("."), Path("/"), tmp_path):
        with pytest.raises(UserError, match="is a folder; the name of a file is needed"):
            checkpoint.replace_text(place, "text")


def test_all_files_may_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    """safetensors alone would leave them to their owner."""
    checkpoint.save_weights(tmp_path / "weights.safetensors", {"a": torch.zeros(1)}, {})
    checkpoint.replace_text(tmp_path / "text", "")
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1
    assert (tmp_path / "text").stat().st_mode & 0o777 == 0o666 & ~checkpoint.UMASK
