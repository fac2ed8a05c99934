"""Views of images: what an affine map does pixel by pixel, and randomness that belongs to an image's row."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from runtime.network import Shape
from runtime.self_supervision.views import COLOUR, GLOBAL, PLACE, Views

PLAIN = {"mirror": False, "contrast": 0, "brightness": 0, "grey": 0, "ratio": (1, 1)}
WHOLE = {"global_area": (1, 1), "local_area": (1, 1), "local": 1, **PLAIN}


def images(channels: int = 3, side: int = 8) -> Tensor:
    return torch.rand(4, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def numbers(**given: float) -> Tensor:
    """One image's numbers for GLOBAL + 1 views: 0.5, the middle of every range, but for those given by position."""
    draw = torch.full((1, GLOBAL + 1, PLACE + COLOUR), 0.5)
    for place, value in given.items():
        draw[..., int(place.removeprefix("at"))] = value
    return draw


def test_the_whole_image_is_a_view() -> None:
    views, given = Views(**WHOLE), images()
    draw = views.draw(4, Shape(3, 8, 8), torch.Generator().manual_seed(0))
    assert torch.allclose(views.of(given, draw), given.expand(3, -1, -1, -1, -1), atol=1e-6)


def test_a_quarter_is_cut_out_and_enlarged() -> None:
    """The upper right quarter of a linear ramp, twice as large, is the ramp at half the slope."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    views = Views(**{**WHOLE, "global_area": (0.25, 0.25)})
    view = views.of(ramp, numbers(at2=1.0, at3=0.0))[0, 0, 0]
    expected = 3.75 + torch.arange(8) * 0.5
    assert torch.allclose(view[:, :7], expected[:7].expand(8, 7), atol=1e-5)  # the last is beyond the last pixel


def test_mirror_and_turn() -> None:
    given = images(1)[:1]
    mirrored = Views(**{**WHOLE, "mirror": True}).of(given, numbers(at6=0.2))[0]
    assert torch.allclose(mirrored, given.flip(3), atol=1e-6)
    turned = Views(**WHOLE, turn=90).of(given, numbers(at4=1.0))[0]
    assert torch.allclose(turned, given.rot90(1, (2, 3)), atol=1e-5)


def test_what_lies_outside() -> None:
    given = images(1)[:1]
    wide = {**WHOLE, "global_area": (4, 4)}
    filled, edge = (Views(**wide, fill=fill).of(given, numbers())[0, 0, 0] for fill in (-1.0, None))
    assert torch.allclose(filled[0], torch.full((8,), -1.0)) and not torch.allclose(edge[0], filled[0])
    assert torch.allclose(edge[0, 0], given[0, 0, 0, 0])


def test_colour() -> None:
    given = images()[:1]
    options = {**WHOLE, "contrast": 0.5, "brightness": 0.2, "grey": 0.1}
    view = Views(**options).of(given, numbers(at7=1.0, at8=0.0))[0]
    assert torch.allclose(view, given.mean() + 1.5 * (given - given.mean()) - 0.2, atol=1e-5)
    grey = Views(**options).of(given, numbers(at9=0.05))[0]
    assert torch.allclose(grey, given.mean(1, keepdim=True).expand_as(given), atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_an_image_has_its_own_numbers(noise: float) -> None:
    """A share of a batch with its rows of the draw gives the rows of the views."""
    views, given = Views(noise=noise, turn=20, shear=0.2), images()
    draw = views.draw(4, Shape(3, 8, 8), torch.Generator().manual_seed(5))
    whole = views.of(given, draw)
    assert whole.shape == (8, 4, 3, 8, 8)
    assert torch.allclose(views.of(given[1:3], draw[1:3]), whole[:, 1:3], atol=1e-6)
    assert all(not torch.allclose(whole[0], other) for other in whole[1:])


def test_bounds_are_checked() -> None:
    for wrong in ({"global_area": (0, 1)}, {"local_area": (0.5, 0.4)}, {"ratio": (-1, 1)}, {"local": -1}):
        with pytest.raises(ValidationError):
            Views(**wrong)
