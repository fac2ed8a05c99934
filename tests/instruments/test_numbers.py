"""An image has one number in all parts of a report: that in its split, from 0."""

from __future__ import annotations

import torch

from runtime.instruments import neighbourhood, scenes, tokens
from runtime.instruments.naming import Asked, Named, subject_named
from tests.runtime.conftest import SPECS

SIZES = {"image": 16, "patch": 4, "channels": 1, "classes": 10, "d": 8, "K": 2, "L": 1}


def test_held_out_images_are_called_by_their_number_in_the_split() -> None:
    asked = Asked(None, "classify_digits", ["data.enlarge=2"], None, SIZES, 12)
    subject = subject_named(Named("crate", None, SPECS / "crate.crate"), asked)
    for of, count in ((subject, 12), (subject.fewer(5), 5)):
        assert list(of.numbers) == list(range(0, 360, 30))[:count]
        group, (names, batch) = scenes.held_out(of), tokens.images_of(of)
        queries = neighbourhood.queries(of)
        named = [*zip(group.names, group.images, strict=True), *zip(names, batch.inputs, strict=True),
                 *((query.name, query.image) for query in queries)]  # fmt: skip
        assert len(queries) == count and len(group.names) == 4 and len(names) > 1
        for name, image in named:
            number = int(name.removeprefix("held out "))
            assert torch.equal(image, subject.splits.held_out.take([number], None).images[0]), name
