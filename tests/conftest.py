"""Options of the tests."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():  # before Triton is imported: its kernels are interpreted
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the transcripts that tests compare with")
