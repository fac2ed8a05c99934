"""The front end of a network that reads text: an embedding of token numbers, and positions."""

from __future__ import annotations

from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.parameters import initialised
from crate_dsl.pytorch.stem import token_lines


class TextFront:
    """The stem of `input text(length, vocabulary)`, a `Front`; texts shorter than `length` take the first positions."""

    argument = "text"
    unit, units = "token", "tokens"
    class_token = False
    outputs = "self.vocabulary"

    def __init__(self, file: File) -> None:
        self._file = file
        words = {word.name: word for word in file.model.tokens.words}
        self._position = words["position"].arguments[0] if "position" in words else None

    def constants(self) -> list[str]:
        return []

    def classes(self) -> list[list[str]]:
        return []

    def facts(self) -> list[str]:
        return [f"vocabulary = {self._file.model.input.arguments[1]}"]

    def stem(self) -> list[str]:
        word, own = self._file.model.inits.get("embedding"), "self.embedding.weight"
        lines = [f"self.embedding = nn.Embedding(self.vocabulary, {self._file.d})"]
        if word and word.name == "linear":  # as torch initialises its linear maps, which a tied head is
            return [*lines, f"nn.init.kaiming_uniform_({own}, a=5**0.5)"]
        return [*lines, initialised(own, word)] if word else lines

    def positions(self) -> list[str]:
        """Learned ones, or sines and cosines of the place (Vaswani et al. 2017)."""
        tokens, word = self._file.model.tokens, self._file.model.inits.get("position")
        n = self._file.constants.size(tokens.cols) if self._position else ""
        if self._position == "learned":
            return token_lines("position", f"1, {n}, {self._file.d}", word, 1.0)
        if self._position is None:
            return []
        self._file.helpers.add("sincos_places")
        place = f"sincos_places({n}, {self._file.d}).unsqueeze(0)"
        return [f'self.register_buffer("position", {place}.to(self.embedding.weight))']

    def embedded(self) -> str:
        return f"self.embedding(text)  # (batch, tokens, {self._file.d})"

    def masked(self) -> list[str]:
        return [
            f"z = {self.embedded()}",
            "mask = self.mask(z, noise)",
            "z = torch.where(mask.unsqueeze(-1) == 1, self.mask_token, z)",
        ]

    def placed(self) -> str:
        return "z + self.position[:, : z.shape[1]]" if self._position else "z"

    def methods(self) -> list[str]:
        return []
