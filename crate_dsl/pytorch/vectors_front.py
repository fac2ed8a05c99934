"""The front end of a network that reads vectors: they are its tokens, with a class token and positions where stated."""

from __future__ import annotations

from crate_dsl.errors import CompilerBug
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.stem import token_lines


class VectorsFront:
    """The stem of `input vectors(d, N)`, a `Front`."""

    argument = "vectors"
    unit, units = "vector", "vectors"
    outputs = ""

    def __init__(self, file: File) -> None:
        self._file = file
        words = {word.name for word in file.model.tokens.words}
        self.class_token, self._position = "class_token" in words, "position" in words

    def constants(self) -> list[str]:
        return []

    def classes(self) -> list[list[str]]:
        return []

    def facts(self) -> list[str]:
        length, count = self._file.model.input.arguments
        return [f"vector_length = {length}", f"vector_count = {count}"]

    def stem(self) -> list[str]:
        return []

    def positions(self) -> list[str]:
        tokens, word = self._file.model.tokens, self._file.model.inits.get("position")
        if not self._position:
            return []
        n, d = self._file.constants.size(tokens.cols), self._file.d
        return token_lines("position", f"1, {n}, {d}", word, 1.0)

    def embedded(self) -> str:
        return "vectors"

    def masked(self) -> list[str]:
        raise CompilerBug("a mask of vectors, which the language refuses")

    def placed(self) -> str:
        return "z + self.position" if self._position else "z"

    def methods(self) -> list[str]:
        return []
