"""The front end of a network that reads images: patches, class token and positions."""

from __future__ import annotations

from crate_dsl.pytorch.convolutions import convolutions_class
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.lines import indented
from crate_dsl.pytorch.stem import token_lines, weight_lines


class ImageFront:
    """The stem of `input image(channels, height, width)`, a `Front`."""

    argument = "images"
    unit, units = "patch", "patches"

    def __init__(self, file: File) -> None:
        self._file, model = file, file.model
        words = {word.name: word for word in model.tokens.words}
        self._channels, self._height, self._width = model.input.arguments
        self._patch_height, self._patch_width = model.patch
        self._convolutions = "convolutions" in words
        self._normed = "patches" in words and "norm" in words["patches"].arguments
        self._position = words["position"].arguments[0] if "position" in words else None
        self.class_token = "class_token" in words
        self._patches, self.outputs = file.names.new("Patches"), file.names.new("pixels")
        self._rows, self._cols = self._height // self._patch_height, self._width // self._patch_width

    # ---- the stem's own module ----------------------------------------------------------------------------------

    def constants(self) -> list[str]:
        if self._convolutions and self._file.model.head.word.name != "patches":
            return []
        return [f"{self.outputs} = {self._patch_height} * {self._patch_width} * {self._channels}  # of one patch"]

    def classes(self) -> list[list[str]]:
        """Pixels of patches to tokens: convolutions, or a linear map, between two norms where stated."""
        d, pixels = self._file.d, self.outputs
        if self._convolutions:
            self._file.helpers.add("halving")
            return [convolutions_class(self._patches, self._patch_height, self._channels, d, self._rows * self._cols)]
        init = [f"self.projection = nn.Linear({pixels}, {d})"]
        call = "self.projection(patches)"
        if self._normed:
            init = [f"self.norm_in = nn.LayerNorm({pixels})", *init, f"self.norm_out = nn.LayerNorm({d})"]
            self._file.helpers.add("normed_linear")
            call = "self.norm_out(normed_linear(patches, self.norm_in, self.projection.weight, self.projection.bias))"
        init += weight_lines("self.projection.weight", self._file.model.inits.get("patches"))
        shape = f"# (batch, patches, {pixels}) -> (batch, patches, {d})"
        text = [
            f"class {self._patches}(nn.Module):",
            *indented(['"""The linear embedding of patches."""', "", "def __init__(self) -> None:"]),
            *indented(["super().__init__()", *init], 2),
            "",
            *indented([f"def forward(self, patches: Tensor) -> Tensor:  {shape}", f"    return {call}"]),
        ]
        return [text]

    # ---- what the network class gets ----------------------------------------------------------------------------

    def facts(self) -> list[str]:
        return [
            f"image_size = ({self._height}, {self._width})",
            f"patch_size = ({self._patch_height}, {self._patch_width})",
            f"channels = {self._channels}",
        ]

    def stem(self) -> list[str]:
        return [f"self.patches = {self._patches}()"]

    def positions(self) -> list[str]:
        """Learned ones, or a fixed table for the patches that the official code has."""
        tokens, inits = self._file.model.tokens, self._file.model.inits
        n = self._file.constants.size(tokens.cols) if self._position else ""
        if self._position == "learned":
            return token_lines("position", f"1, {n}, {self._file.d}", inits.get("position"), 1.0)
        if self._position is None:
            return []
        if self._position == "fourier":
            self._file.helpers.add("fourier_places")
            places = f"fourier_places({self._rows}, {self._cols}).to(self.position.weight)"
            return [
                f"self.position = nn.Linear(64, {self._file.d})",
                f'self.register_buffer("places", {places}, persistent=False)',
            ]
        self._file.helpers.add("sincos_positions")
        lines = [f"position = sincos_positions({self._rows}, {self._cols}, {self._file.d}).unsqueeze(0)"]
        if self.class_token:
            lines.append("position = F.pad(position, (0, 0, 1, 0))  # none for the class token")
        weight = "self.patches.projection[0][0].weight" if self._convolutions else "self.patches.projection.weight"
        return [*lines, f'self.register_buffer("position", position.to({weight}))']

    def embedded(self) -> str:
        images = "images" if self._convolutions else "self.patchify(images)"
        return f"self.patches({images})  # (batch, patches, {self._file.d})"

    def masked(self) -> list[str]:
        self._file.helpers.add("embed_visible")
        call = "embed_visible(self.patches, patches, mask, self.mask_ratio, self.mask_token)"
        return [
            f"patches = self.patchify(images)  # (batch, patches, {self.outputs})",
            "mask = self.mask(patches, noise)",
            f"z = {call}  # (batch, patches, {self._file.d})",
        ]

    def placed(self) -> str:
        if self._position == "fourier":
            position = "self.position(self.places)"
            return f"z + F.pad({position}, (0, 0, 1, 0))" if self.class_token else f"z + {position}"
        return "z + self.position" if self._position else "z"

    def methods(self) -> list[str]:
        rows, cols, c = self._rows, self._cols, self._channels
        ph, pw = self._patch_height, self._patch_width
        images = f"(batch, {c}, {self._height}, {self._width})"
        return [
            "def patchify(self, images: Tensor) -> Tensor:",
            f'    """{images} -> (batch, {rows * cols}, {ph * pw * c}): row, column, channel."""',
            f"    grid = images.unflatten(3, ({cols}, {pw})).unflatten(2, ({rows}, {ph}))",
            "    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)",
            "",
            "def unpatchify(self, patches: Tensor) -> Tensor:",
            '    """The images of which `patchify` makes these patches."""',
            f"    grid = patches.unflatten(2, ({ph}, {pw}, {c})).unflatten(1, ({rows}, {cols}))",
            "    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)",
        ]
