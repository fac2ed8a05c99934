"""Functions that a written file may need; only those that it uses are written."""

from __future__ import annotations

import re

from crate_dsl.pytorch.causal_helpers import CAUSAL_HELPERS, CAUSAL_NEEDS
from crate_dsl.pytorch.gpu_helpers import GPU_HELPERS, GPU_NEEDS

HELPERS: dict[str, str] = {
    "split_heads": '''
def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, N, heads * p) -> (batch, heads, N, p)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
''',
    "merge_heads": '''
def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, N, p) -> (batch, N, heads * p)."""
    return x.transpose(1, 2).flatten(2)
''',
    "attention_of_one": '''
def attention_of_one(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Attention of one query per head, (batch, heads, 1, d), to tokens that all heads share, (batch, N, d)."""
    keys, values = keys.unsqueeze(1), values.unsqueeze(1)
    return F.scaled_dot_product_attention(query.transpose(1, 2), keys, values, scale=scale).transpose(1, 2)
''',
    "shared_attention": '''
class SharedAttention(torch.autograd.Function):
    """softmax(s w w') w with a backward pass of matrix products, by shares of the heads that stay in the caches."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, scale: float, is_causal: bool) -> Tensor:
        return F.scaled_dot_product_attention(w, w, w, scale=scale, is_causal=is_causal)

    @staticmethod
    def setup_context(ctx, inputs: tuple, result: Tensor) -> None:
        w, ctx.scale, ctx.is_causal = inputs
        ctx.save_for_backward(w, result)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        w, result = ctx.saved_tensors
        tokens = w.shape[-2]
        at_once = max(1, 2**19 // tokens**2)  # heads: a megabyte of scores
        with torch.autocast(w.device.type, enabled=False):  # compiled code comes here under that of the forward pass
            sums = (at_least_float32(gradient) * at_least_float32(result)).sum(-1, keepdim=True)
            heads = [x.to(w.dtype).flatten(0, 1).split(at_once) for x in (w, gradient, sums)]
            parts = [SharedAttention.share(*share, ctx.scale, ctx.is_causal) for share in zip(*heads, strict=True)]
        return torch.cat(parts).view_as(w), None, None

    @staticmethod
    def share(w: Tensor, gradient: Tensor, sums: Tensor, scale: float, is_causal: bool) -> Tensor:
        """P'g + s (D + D') w with P the softmax and D = P * (g w' - sums of g o), of some heads, (heads, N, p)."""
        scores = torch.baddbmm(w.new_empty(()), w, w.mT, beta=0, alpha=scale)
        if is_causal:
            scores += torch.full_like(scores[0], -torch.inf).triu(1)
        weights = scores.softmax(-1)
        change = (gradient @ w.mT).sub_(sums).mul_(weights)
        return (weights.mT @ gradient).baddbmm_(change, w, alpha=scale).baddbmm_(change.mT, w, alpha=scale)


def shared_attention(w: Tensor, scale: float, is_causal: bool = False) -> Tensor:
    """Attention with one tensor for queries, keys and values, (batch, heads, N, p).

    On a processor, torch's own backward pass of it is slow in half precision, but for more than 2,048 tokens.
    """
    half = w.dtype in (torch.float16, torch.bfloat16) and w.device.type == "cpu"
    if half and torch.is_grad_enabled() and w.shape[-2] <= 2048:
        return SharedAttention.apply(w, scale, is_causal)
    return F.scaled_dot_product_attention(w, w, w, scale=scale, is_causal=is_causal)
''',
    "threshold": '''
def threshold(x: Tensor, level: Tensor | float) -> Tensor:
    """The level where an entry is above it, else 0; the comparison passes no gradient on."""
    return level * (x > level).to(x.dtype)
''',
    "onto_simplex": '''
def onto_simplex(x: Tensor, dim: int) -> Tensor:
    """Every vector along an axis to the nearest probability vector (Duchi et al. 2008)."""
    ordered = x.sort(dim=dim, descending=True).values
    excess = (ordered.cumsum(dim) - 1) / torch.ones_like(x).cumsum(dim)
    last = (ordered > excess).sum(dim, keepdim=True) - 1
    return (x - excess.gather(dim, last)).clamp(min=0)
''',
    "identity_like": '''
def identity_like(matrix: Tensor) -> Tensor:
    """The identity of a square matrix's size, type and device."""
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
''',
    "plus_identity": '''
def plus_identity(matrix: Tensor) -> Tensor:
    """I + a matrix that nothing else reads: in place, but not where torch.compile or torch.export follow the code."""
    if torch.compiler.is_compiling():
        return matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    matrix.diagonal().add_(1)
    return matrix
''',
    "MadeOf": '''
class MadeOf:
    """What a function makes of a weight: made again in evaluation only where the weight has changed.

    Comparing all of it costs a processor less than making it. Where a GPU would have to be waited for, where half
    precision is asked for, and where torch.compile or torch.export follow the code, it is made every time. So it is in
    training, but between `hold` and `release`, where the weight must not change.
    """

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        self._function = function
        self._last: tuple[Tensor, Tensor] | None = None  # the weight, and what was made of it
        self._holds = False
        self._held: tuple[Tensor, Tensor] | None = None  # what was made to be held, and as a leaf of its own

    def __reduce__(self) -> tuple:  # neither copied nor stored
        return MadeOf, (self._function,)

    def hold(self) -> None:
        """From now on make it once in training, so that gradients of several batches are accumulated faster."""
        self._holds = True

    def release(self) -> tuple[Tensor, Tensor] | None:
        """What was made and its gradient, where there is one: `torch.autograd.backward` brings it to the weight."""
        held, self._holds, self._held = self._held, False, None
        return None if held is None or held[1].grad is None else (held[0], held[1].grad)

    def _once(self, weight: Tensor) -> Tensor:
        if self._held is None:
            # in full precision, as a weight is, and apart from activation checkpoints, whose code runs twice
            apart = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
            with torch.autocast(weight.device.type, enabled=False), apart:
                made = self._function.apply(weight)
            self._held = made, made.detach().requires_grad_(made.requires_grad)
        return self._held[1]

    def __call__(self, weight: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling() and self._holds:
            return self._once(weight)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
            return self._function.apply(weight)
        if weight.device.type != "cpu" or type(weight) is not nn.Parameter:
            return self._function.apply(weight)
        last = self._last
        if last is None or last[0].dtype != weight.dtype or not torch.equal(last[0], weight):
            last = self._last = (weight.detach().clone(), self._function.apply(weight))
        return last[1]
''',
    "at_least_float32": '''
def at_least_float32(x: Tensor) -> Tensor:
    """Half precision widened, as Cholesky factors and running sums need it."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
''',
    "fold_again": '''
def fold_again(network: nn.Module, _: object) -> None:
    """After weights are loaded: compute what is made of them."""
    network.fold()
''',
    "normed_linear": '''
class NormedLinear(torch.autograd.Function):
    """F.linear(layer_norm(z), weight, bias), its ReLU if wanted; the backward pass makes the normed tokens again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        z: Tensor,
        gain: Tensor | None,
        shift: Tensor | None,
        epsilon: float,
        weight: Tensor,
        bias: Tensor | None,
        relu: bool,
    ) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # tokens in half precision stay so, their sums are wider
            v, _, _ = torch.native_layer_norm(z, z.shape[-1:], gain, shift, epsilon)
        result = F.linear(v, weight, bias)
        if relu:  # in place, but not under torch.compile: that of torch 2.11 loses the gradient then
            result = F.relu(result, inplace=not torch.compiler.is_compiling())
        return result

    @staticmethod
    def setup_context(ctx, inputs: tuple, result: Tensor) -> None:
        z, gain, shift, ctx.epsilon, weight, _, ctx.relu = inputs
        ctx.save_for_backward(z, gain, shift, weight, result if ctx.relu else None)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, gain, shift, weight, result = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, result, 0) if ctx.relu else gradient
        whole = ctx.needs_input_grad[0]
        affine = (gain, shift) if whole else (None, None)
        v, mean, deviation = torch.native_layer_norm(z, z.shape[-1:], *affine, ctx.epsilon)
        rows, weight_now = gradient.flatten(0, -2), weight.to(gradient.dtype)
        of_weight = rows.mT @ v.flatten(0, -2).to(rows.dtype)
        of_z = of_gain = of_shift = None
        if whole:
            of_v = (gradient @ weight_now).to(z.dtype)
            of_z, of_gain, of_shift = torch.ops.aten.native_layer_norm_backward(
                of_v, z, z.shape[-1:], mean, deviation, gain, shift, [True, gain is not None, gain is not None]
            )
        elif gain is not None:  # of (weight gain) x + (weight shift + bias), without the product for a gradient of z
            total = rows.sum(0)
            of_gain, of_shift = (weight_now * of_weight).sum(0), total @ weight_now
            of_weight = of_weight * gain + total.outer(shift)
        of_bias = rows.sum(0) if ctx.needs_input_grad[5] else None  # a constant needs none
        return of_z, of_gain, of_shift, None, of_weight.to(weight.dtype), of_bias, None


def normed_linear(
    z: Tensor, norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None = None, relu: bool = False
) -> Tensor:
    """F.linear(norm(z), weight, bias), its ReLU if wanted; in training the normed tokens are not kept.

    On a GPU gain and shift go into the weight and the bias, since their gradients are slow sums over all tokens:
    weight (gain x + shift) + bias = (weight gain) x + (weight shift + bias).
    """
    if isinstance(norm, nn.LayerNorm) and (torch.is_grad_enabled() or z.dtype != norm.weight.dtype):
        if z.is_cuda:
            offset = weight @ norm.bias
            weight, bias = weight * norm.weight, offset if bias is None else offset + bias
            gain = shift = None
        else:
            gain, shift = norm.weight.to(z.dtype), norm.bias.to(z.dtype)
        return NormedLinear.apply(z, gain, shift, norm.eps, weight, bias, relu)
    result = F.linear(norm(z), weight, bias)
    return result.relu_() if relu else result
''',
    "stochastic_depth": '''
def stochastic_depth(z: Tensor, after: Tensor, rate: float) -> Tensor:
    """Stochastic depth (Huang et al. 2016): at this rate a sample stays at z, else its step is divided by 1 - rate."""
    if rate == 0:
        return after
    taken = z.new_empty(len(z), 1, 1).bernoulli_(1 - rate)
    return z + taken * (after - z) / (1 - rate)
''',
    "gram_solve": '''
class GramSolve(torch.autograd.Function):
    """(shift I + scale w'w)^-1 applied to every row of w; the inverse and w'w are kept for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gram = w.mT @ w  # (..., p, p)
        identity = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
        factor = torch.linalg.cholesky_ex(shift * identity + scale * gram).L
        root = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        inverse = root.mT @ root
        return w @ inverse, inverse, gram

    @staticmethod
    def setup_context(ctx, inputs: tuple, outputs: tuple) -> None:
        w, _, scale = inputs
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(w, *outputs, scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """With y the result and h the same solve of the gradient: h - scale w (h'y + y'h) for w."""
        if gradient is None:
            return None, None, None
        w, y, inverse, gram, scale = ctx.saved_tensors
        with torch.autocast(w.device.type, enabled=False):  # compiled code comes here under that of the forward pass
            h = gradient @ inverse
            cross = h.mT @ y  # (..., p, p)
            both = scale * (cross + cross.mT)
            of_shift = -cross.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].sum_to_size(scale.shape)
            of_scale = -(cross * gram).sum_to_size(scale.shape)
            h.flatten(0, -3).baddbmm_(w.flatten(0, -3), both.flatten(0, -3), alpha=-1)
        return h, of_shift, of_scale


def gram_solve(w: Tensor, shift: Tensor | float, scale: Tensor | float) -> Tensor:
    """(shift I + scale w'w)^-1 applied to every row of w, (batch, [heads,] N, p)."""
    heads = w.shape[-3] if w.ndim > 3 else 1
    shift, scale = (torch.as_tensor(x, dtype=w.dtype, device=w.device).expand(heads, 1, 1) for x in (shift, scale))
    return GramSolve.apply(w.contiguous(), shift, scale)[0]
''',
    "gelu_slope": '''
def gelu_slope(x: Tensor) -> Tensor:
    """The derivative of GELU, of x Phi(x) with the normal distribution Phi."""
    return torch.special.ndtr(x) + x * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
''',
    "gelu_potential": '''
def gelu_potential(x: Tensor) -> Tensor:
    """The antiderivative of GELU: ((x^2 - 1) Phi(x) + x phi(x)) / 2."""
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    return ((x.square() - 1) * torch.special.ndtr(x) + x * density) / 2
''',
    "embed_visible": '''
def embed_visible(embed: nn.Module, patches: Tensor, mask: Tensor, ratio: float, mask_token: Tensor) -> Tensor:
    """Tokens of the patches, (batch, patches, d); where the mask is 1 the mask token, and nothing is embedded."""
    visible = int(patches.shape[1] * (1 - ratio))
    places = mask.argsort(dim=1)[:, :visible, None]
    tokens = embed(patches.gather(1, places.expand(-1, -1, patches.shape[-1])))
    return mask_token.to(tokens.dtype).expand(*mask.shape, -1).scatter(1, places.expand_as(tokens), tokens)
''',
    "sine_and_cosine": '''
def sine_and_cosine(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine as numpy computes them in float32, since the official tables were made so.

    The angle is reduced to a quarter turn, then two short polynomials follow; every product is added with one rounding.
    """

    def fused(a: Tensor, b: Tensor, c: Tensor | float) -> Tensor:
        return (a.double() * b.double() + c).float()

    def polynomial(x: Tensor, *coefficients: str) -> Tensor:
        value = torch.full_like(x, float.fromhex(coefficients[0]))
        for coefficient in coefficients[1:]:
            value = fused(value, x, float.fromhex(coefficient))
        return value

    turns = (angle * float.fromhex("0x1.45f306p-1")).round()  # quarter turns
    rest = angle
    for part in ("-0x1.921fb0p+0", "-0x1.5110b4p-22", "-0x1.846988p-48"):
        rest = fused(turns, torch.full_like(turns, float.fromhex(part)), rest.double())
    square = rest * rest
    cosine = polynomial(square, "0x1.98e616p-16", "-0x1.6c06dcp-10", "0x1.55553cp-5", "-0x1p-1", "0x1p+0")
    sine = polynomial(square, "0x1.7d3bbcp-19", "-0x1.a06bbap-13", "0x1.11119ap-7", "-0x1.555556p-3", "0x0p+0")
    sine = fused(sine, rest, rest.double())
    quadrant = turns.long() % 4
    swapped = quadrant % 2 == 1
    first, second = torch.where(swapped, cosine, sine), torch.where(swapped, sine, cosine)
    return (
        torch.where(quadrant >= 2, -first, first),
        torch.where((quadrant == 1) | (quadrant == 2), -second, second),
    )
''',
    "periods": '''
def periods(count: int) -> Tensor:
    """10000^(i / count) in float32, rounded correctly: powers in float32 differ between processors in the last bit."""
    exponent = torch.arange(count, dtype=torch.float32, device="cpu") / count
    return (10000 ** exponent.double()).float()
''',
    "sincos_positions": '''
def sincos_positions(rows: int, cols: int, width: int) -> Tensor:
    """The fixed positions of MAE (He et al. 2022) for a grid of patches, (rows * cols, width).

    The first half of the features encodes the column, the second half the row, as in the official table.
    """
    frequency = 1 / periods(width // 4)

    def encoded(count: int) -> Tensor:  # (count, width / 2)
        place = torch.arange(count, dtype=torch.float32, device="cpu").unsqueeze(1)
        return torch.cat(sine_and_cosine(place * frequency), dim=1)

    column = encoded(cols).expand(rows, cols, -1)
    row = encoded(rows).unsqueeze(1).expand(rows, cols, -1)
    return torch.cat((column, row), dim=2).flatten(0, 1)
''',
    "fourier_places": '''
def fourier_places(rows: int, cols: int) -> Tensor:
    """The waves of XCiT's positions (El-Nouby et al. 2021), (rows * cols, 64): 32 of the row, then 32 of the column.

    Row and column go up to 2 pi; sines and cosines of 16 frequencies take turns. In float32, as in the official code.
    """
    number = torch.arange(32, dtype=torch.float32)
    period = 10000 ** (2 * (number // 2) / 32)

    def encoded(count: int) -> Tensor:  # (count, 32)
        place = torch.arange(1, count + 1, dtype=torch.float32)
        angle = (place / (place[-1:] + 1e-6) * (2 * torch.pi)).unsqueeze(1) / period
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    row, column = encoded(rows).unsqueeze(1).expand(-1, cols, -1), encoded(cols).expand(rows, -1, -1)
    return torch.cat((row, column), dim=2).flatten(0, 1)
''',
    "halving": '''
def halving(inner: int, outer: int) -> nn.Sequential:
    """A convolution that halves rows and columns, and its norm over the batch."""
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outer))
''',
    "sincos_places": '''
def sincos_places(count: int, width: int) -> Tensor:
    """The fixed positions of a sequence (Vaswani et al. 2017), (count, width): all sines, then all cosines."""
    place = torch.arange(count, dtype=torch.float32, device="cpu").unsqueeze(1)
    return torch.cat(sine_and_cosine(place / periods(width // 2)), dim=1)
''',
}
HELPERS |= CAUSAL_HELPERS | GPU_HELPERS
NEEDS = {
    "sincos_positions": ("sine_and_cosine", "periods"),
    "sincos_places": ("sine_and_cosine", "periods"),
    "shared_attention": ("at_least_float32",),
}
NEEDS |= CAUSAL_NEEDS | GPU_NEEDS
DEFINED = {name for text in HELPERS.values() for name in re.findall(r"^(?:def|class) (\w+)", text, re.MULTILINE)}


def helpers_text(wanted: set[str]) -> str:
    """The wanted functions and those that they call, in the order of the table."""
    wanted = wanted | {needed for name in wanted for needed in NEEDS.get(name, ())}
    return "".join(f"\n\n{text.strip()}\n" for name, text in HELPERS.items() if name in wanted)
