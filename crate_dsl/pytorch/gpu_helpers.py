"""Functions that a file written for a GPU may need: kernels of Triton, where they are faster than torch's own.

The scores of attention with one tensor, s W W', are symmetric. A block of rows has its rows and its columns of P, the
softmax, from one product, so that the whole gradient of a block, P'G + s (D + D') W with D = P * (G W' - sums of G O),
is made in one place: nothing is added up between blocks, and one tensor is written where queries, keys and values have
three that are added.
"""

from __future__ import annotations

GPU_HELPERS: dict[str, str] = {
    "attention_kernels": '''
@triton.jit
def place_of(HEADS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """The rows that are this program's, the number of its head in the batch, and where that begins."""
    blocks: tl.constexpr = (TOKENS + ROWS - 1) // ROWS
    number = tl.program_id(0) // blocks
    rows = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    return rows, number, (number // HEADS).to(tl.int64) * TOKENS * HEADS * WIDTH + number % HEADS * WIDTH


@triton.jit
def rows_of(x, rows, HEADS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr):
    """Some rows of one head, 0 beyond the last token."""
    places = rows[:, None] * (HEADS * WIDTH) + tl.arange(0, WIDTH)[None, :]
    return tl.load(x + places, mask=rows[:, None] < TOKENS, other=0.0)


@triton.jit
def attend(w, result, levels, SCALE: tl.constexpr, HEADS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr,
           ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Some rows of softmax(s w w') w in one head, of (batch, N, heads, p), and the logarithms of the softmax's sums."""
    rows, number, head = place_of(HEADS, TOKENS, WIDTH, ROWS)
    own = rows_of(w + head, rows, HEADS, TOKENS, WIDTH)
    top = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    value = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, TOKENS, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        other = rows_of(w + head, columns, HEADS, TOKENS, WIDTH)
        scores = tl.where(columns[None, :] < TOKENS, tl.dot(own, tl.trans(other)) * SCALE, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(weights, 1)
        value = tl.dot(weights.to(other.dtype), other, value * shrunk[:, None])
        top = higher
    places = head + rows[:, None] * (HEADS * WIDTH) + tl.arange(0, WIDTH)[None, :]
    tl.store(result + places, (value / total[:, None]).to(result.dtype.element_ty), mask=rows[:, None] < TOKENS)
    tl.store(levels + number * TOKENS + rows, top + tl.log2(total), mask=rows < TOKENS)


@triton.jit
def inner_products(a, b, result, HEADS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """Of some rows in one head, (batch, N, heads, p)."""
    rows, number, head = place_of(HEADS, TOKENS, WIDTH, ROWS)
    one = rows_of(a + head, rows, HEADS, TOKENS, WIDTH).to(tl.float32)
    product = one * rows_of(b + head, rows, HEADS, TOKENS, WIDTH).to(tl.float32)
    tl.store(result + number * TOKENS + rows, tl.sum(product, 1), mask=rows < TOKENS)


@triton.jit
def attend_backward(w, gradient, levels, sums, result, SCALE: tl.constexpr, FACTOR: tl.constexpr, HEADS: tl.constexpr,
                    TOKENS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Some rows of P'g + s (D + D') w in one head, D = P * (g w' - sums of g o): P and P' are of the same scores."""
    rows, number, head = place_of(HEADS, TOKENS, WIDTH, ROWS)
    own = rows_of(w + head, rows, HEADS, TOKENS, WIDTH)
    own_gradient = rows_of(gradient + head, rows, HEADS, TOKENS, WIDTH)
    own_level = tl.load(levels + number * TOKENS + rows, mask=rows < TOKENS, other=0.0)
    own_sum = tl.load(sums + number * TOKENS + rows, mask=rows < TOKENS, other=0.0)
    value = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, TOKENS, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < TOKENS
        other = rows_of(w + head, columns, HEADS, TOKENS, WIDTH)
        other_gradient = rows_of(gradient + head, columns, HEADS, TOKENS, WIDTH)
        level = tl.load(levels + number * TOKENS + columns, mask=inside, other=float("inf"))
        its_sum = tl.load(sums + number * TOKENS + columns, mask=inside, other=0.0)
        scores = tl.dot(own, tl.trans(other)) * SCALE
        ours = tl.where(inside[None, :], tl.exp2(scores - own_level[:, None]), 0.0)  # of P
        theirs = tl.exp2(scores - level[None, :])  # of P'
        change = ours * (tl.dot(own_gradient, tl.trans(other)) - own_sum[:, None])
        change += theirs * (tl.dot(own, tl.trans(other_gradient)) - its_sum[None, :])
        value = tl.dot(theirs.to(other.dtype), other_gradient, value)
        value = tl.dot((change * FACTOR).to(other.dtype), other, value)
    places = head + rows[:, None] * (HEADS * WIDTH) + tl.arange(0, WIDTH)[None, :]
    tl.store(result + places, value.to(result.dtype.element_ty), mask=rows[:, None] < TOKENS)
''',
    "standardised": '''
def standardised(z: Tensor, eps: float = 1e-5) -> Tensor:
    """The layer norm without gain and shift, in the tokens' own precision, with sums in float32."""
    with torch.autocast(z.device.type, enabled=False):
        return F.layer_norm(z, z.shape[-1:], eps=eps)
''',
    "kernel_attention": '''
class KernelAttention(torch.autograd.Function):
    """softmax(s w w') w, of (batch, N, heads, p) in half precision, with the symmetric scores' own backward pass."""

    @staticmethod
    def forward(ctx, w: Tensor, scale: float) -> Tensor:
        batch, tokens, heads, width = w.shape
        result, levels = torch.empty_like(w), w.new_empty(batch, heads, tokens, dtype=torch.float32)
        attend[(-(tokens // -64) * batch * heads,)](
            w, result, levels, scale * math.log2(math.e), heads, tokens, width, 64, 32, num_warps=4, num_stages=3
        )
        ctx.scale = scale
        ctx.save_for_backward(w, result, levels)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        w, result, levels = ctx.saved_tensors
        batch, tokens, heads, width = w.shape
        gradient, sums, found = gradient.contiguous(), torch.empty_like(levels), torch.empty_like(w)
        grid = (-(tokens // -64) * batch * heads,)
        inner_products[grid](gradient, result, sums, heads, tokens, width, 64)
        attend_backward[grid](
            w, gradient, levels, sums, found, ctx.scale * math.log2(math.e), ctx.scale,
            heads, tokens, width, 64, 32, num_warps=4, num_stages=2,
        )  # fmt: skip
        return found, None


def kernel_attention(w: Tensor, scale: float) -> Tensor:
    """Attention with one tensor for queries, keys and values, (batch, heads, N, p); kernels in half precision."""
    if w.is_cuda and w.dtype in (torch.float16, torch.bfloat16) and w.shape[-1] in (32, 64):
        return KernelAttention.apply(w.transpose(1, 2).contiguous(), scale).transpose(1, 2)
    return shared_attention(w, scale)
''',
}
GPU_NEEDS = {"kernel_attention": ("attention_kernels", "shared_attention", "at_least_float32")}
