"""The front end of a network that reads vectors: they are its tokens, with a class token and positions where stated."""

from __future__ import annotations

from dataclasses import dataclass

from crate_dsl.language.model import Model


@dataclass(frozen=True)
class VectorsFront:
    """The evaluated words of `input vectors(d, N)` and its tokens line."""

    length: int
    count: int
    class_token: bool
    position: str | None  # learned or None
    mask_ratio: None = None
    argument: str = "vectors"

    @property
    def facts(self) -> list[str]:
        return [f"vector_length = {self.length}", f"vector_count = {self.count}"]

    @property
    def embedded(self) -> str:
        """The code of the tokens before anything is added."""
        return "vectors"


def vectors_front_of(model: Model) -> VectorsFront:
    words = {word.name: word for word in model.tokens.words}
    length, count = model.input.arguments
    return VectorsFront(length, count, "class_token" in words, "learned" if "position" in words else None)
