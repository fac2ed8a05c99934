"""The front end of a network: patches, mask, class token, positions and head, from the words of the spec."""

from __future__ import annotations

from dataclasses import dataclass

from crate_dsl.language.model import Model, Word
from crate_dsl.pytorch.parameters import initialised
from crate_dsl.pytorch.steps import File, indented

MASK_STANDARD_DEVIATION = 0.02  # of the mask token, as officially


@dataclass(frozen=True)
class Front:
    """The evaluated words of the stem."""

    channels: int
    height: int
    width: int
    patch_height: int
    patch_width: int
    normed: bool
    class_token: bool
    position: str | None  # learned, sincos or None
    mask_ratio: float | None

    @property
    def rows(self) -> int:
        return self.height // self.patch_height

    @property
    def cols(self) -> int:
        return self.width // self.patch_width

    @property
    def pixels(self) -> int:
        return self.patch_height * self.patch_width * self.channels


def front_of(model: Model) -> Front:
    words = {word.name: word for word in model.tokens.words}
    channels, height, width = model.input.arguments
    patches = words["patches"].arguments
    sides = [side for side in patches if not isinstance(side, str)]
    position = words["position"].arguments[0] if "position" in words else None
    ratio = float(model.mask.arguments[0]) if model.mask else None
    return Front(
        channels, height, width, sides[0], sides[-1], "norm" in patches, "class_token" in words, position, ratio
    )


def task_of(model: Model) -> str:
    if model.head.word.name in ("classify", "features"):
        return model.head.word.name
    return "mae" if model.mask else "reconstruct"


# ---- the stem's own module -------------------------------------------------------------------------------------


def patches_class(file: File, front: Front, name: str) -> list[str]:
    """Pixels of patches to tokens: a linear map, between two norms where stated."""
    d = file.constants.size(file.model.tokens.rows)
    pixels = file.names.new("pixels")
    init = [f"self.projection = nn.Linear({pixels}, {d})"]
    call = "self.projection(patches)"
    if front.normed:
        init = [f"self.norm_in = nn.LayerNorm({pixels})", *init, f"self.norm_out = nn.LayerNorm({d})"]
        call = "self.norm_out(self.projection(self.norm_in(patches)))"
    init += weight_lines("self.projection.weight", file.model.inits.get("patches"))
    shape = f"# (batch, patches, {pixels}) -> (batch, patches, {d})"
    return [
        f"{pixels} = {front.patch_height} * {front.patch_width} * {front.channels}  # of one patch",
        "",
        "",
        f"class {name}(nn.Module):",
        *indented(['"""The linear embedding of patches."""', "", "def __init__(self) -> None:"]),
        *indented(["super().__init__()", *init], 2),
        "",
        *indented([f"def forward(self, patches: Tensor) -> Tensor:  {shape}", f"    return {call}"]),
    ]


def weight_lines(own: str, word: Word | None) -> list[str]:
    """The initialisation of a linear map's weight, none where it stays torch's own."""
    line = initialised(own, word) if word else ""
    return [line] if line else []


# ---- what the network class gets -------------------------------------------------------------------------------


def stem_lines(file: File, front: Front, patches: str) -> list[str]:
    """The stem's part of `__init__`."""
    constants, tokens, inits = file.constants, file.model.tokens, file.model.inits
    d, n = constants.size(tokens.rows), constants.size(tokens.cols)
    lines = [f"self.patches = {patches}()"]
    if front.mask_ratio is not None:
        lines += _token("mask_token", "1, 1, " + d, inits.get("mask_token"), MASK_STANDARD_DEVIATION)
    if front.class_token:
        lines += _token("class_token", "1, 1, " + d, inits.get("class_token"), 1.0)
    if front.position == "learned":
        lines += _token("position", f"1, {n}, {d}", inits.get("position"), 1.0)
    if front.position == "sincos":
        file.helpers.add("sincos_positions")
        lines.append(f"position = sincos_positions({front.rows}, {front.cols}, {d}).unsqueeze(0)")
        if front.class_token:
            lines.append("position = F.pad(position, (0, 0, 1, 0))  # none for the class token")
        lines.append('self.register_buffer("position", position.to(self.patches.projection.weight))')
    return lines


def _token(name: str, shape: str, word: Word | None, deviation: float) -> list[str]:
    own = f"self.{name}"
    default = f"nn.init.normal_({own}, std={deviation!r})"
    return [f"{own} = nn.Parameter(torch.empty({shape}))", (initialised(own, word) if word else "") or default]


def tokens_method(file: File, front: Front) -> list[str]:
    """Images to tokens; with a mask, also which patches are hidden."""
    n, d = (file.constants.size(axis) for axis in (file.model.tokens.cols, file.model.tokens.rows))
    masked = front.mask_ratio is not None
    noise, result = (", noise: Tensor | None = None", "tuple[Tensor, Tensor]") if masked else ("", "Tensor")
    lines = ["z = self.patches(self.patchify(images))  # (batch, patches, " + d + ")"]
    if masked:
        lines += ["mask = self.mask(z, noise)", "z = torch.where(mask.unsqueeze(-1) == 1, self.mask_token, z)"]
    if front.class_token:
        lines.append("z = torch.cat((self.class_token.expand(len(z), -1, -1), z), dim=1)")
    value = "z + self.position" if front.position else "z"
    lines.append(f"return {value}, mask" if masked else f"return {value}")
    about = f'"""The tokens that enter the first layer, (batch, {n}, {d})' + (
        ', and the mask."""' if masked else '."""'
    )
    return [f"def tokens(self, images: Tensor{noise}) -> {result}:", *indented([about, *lines])]


def mask_method() -> list[str]:
    """Which patches are hidden: all but those with the smallest noise."""
    return [
        "def mask(self, patches: Tensor, noise: Tensor | None) -> Tensor:",
        '    """1 where a patch is hidden, (batch, patches); those with the smallest noise stay visible."""',
        "    if noise is None:",
        "        noise = torch.rand(patches.shape[:2], device=patches.device)",
        "    visible = int(patches.shape[1] * (1 - self.mask_ratio))",
        "    rank = noise.argsort(dim=1).argsort(dim=1)",
        "    return (rank >= visible).to(patches.dtype)",
    ]


def _images(front: Front) -> str:
    return f"(batch, {front.channels}, {front.height}, {front.width})"


def patchify_methods(front: Front) -> list[str]:
    rows, cols = front.rows, front.cols
    ph, pw, c = front.patch_height, front.patch_width, front.channels
    return [
        "def patchify(self, images: Tensor) -> Tensor:",
        f'    """{_images(front)} -> (batch, {rows * cols}, {front.pixels}): row, column, channel."""',
        f"    grid = images.unflatten(3, ({cols}, {pw})).unflatten(2, ({rows}, {ph}))",
        "    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)",
        "",
        "def unpatchify(self, patches: Tensor) -> Tensor:",
        '    """The images of which `patchify` makes these patches."""',
        f"    grid = patches.unflatten(2, ({ph}, {pw}, {c})).unflatten(1, ({rows}, {cols}))",
        "    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)",
    ]


def head_lines(file: File, front: Front) -> list[str]:
    """The head's part of `__init__`; features are the pooled token itself."""
    if task_of(file.model) == "features":
        return []
    d, word = file.constants.size(file.model.tokens.rows), file.model.inits.get("head")
    outputs = str(file.model.head.word.arguments[0]) if task_of(file.model) == "classify" else "pixels"
    weights = weight_lines("self.head.weight", word)
    zeros = ["nn.init.zeros_(self.head.bias)"] if weights else []
    return [f"self.head = nn.Linear({d}, {outputs})", *weights, *zeros]


def pool_code(model: Model) -> str:
    """What a head that reads one token makes of the tokens z: the class token, or the mean of all tokens."""
    if model.head.of is None:
        return ""
    return "z[:, 0]" if model.head.of == "class_token" else "z.mean(dim=1)"


def head_code(model: Model, front: Front) -> str:
    """What the head makes of z, pooled already where it reads one token."""
    if task_of(model) == "features":
        return "z"
    if task_of(model) == "classify":
        return "self.head(z)"
    return "self.head(z[:, 1:])" if front.class_token else "self.head(z)"
