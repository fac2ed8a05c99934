"""Tiny subjects of reports, on the digits."""

from __future__ import annotations

from pathlib import Path

import torch

from runtime.instruments.subject import Subject, assembled
from runtime.network import compile_network
from runtime.recipe import recipes

SPECS = Path(__file__).parents[2] / "specs"
RECIPES = {
    "crate": "classify_digits",
    "crate_mae": "mae_digits",
    "crate_autoencoder": "reconstruct_digits",
    "crate_decoder": "denoise_digits",
    "crate_dino": "simdino_digits",
    "crate_gpt": "gpt_text",
    "tost": "classify_digits",
}


def subject(spec: str, count: int = 12, recipe: str = "", **sizes: int) -> Subject:
    """A network with random weights in float32, as freshly initialised, of width 8 with 2 heads and 2 layers."""
    settings = [f"sizes.{name}={value}" for name, value in ({"d": 8, "K": 2, "L": 2} | sizes).items()]
    loaded = recipes.load(recipes.find(recipe or RECIPES[spec]), settings)
    compiled = compile_network(SPECS / f"{spec}.crate", loaded.preset, loaded.sizes, seed=3, dtype=torch.float32)
    return assembled("tiny", compiled, None, loaded, count)
