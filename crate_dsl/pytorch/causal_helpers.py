"""Functions of causal steps that a written file may need: running sums and solves, tokens taken in chunks.

`PrefixSolve` is exact: the inverse before a chunk is formed once, and the tokens of the chunk are taken up by a
Cholesky factor of the chunk's size, every leading block of which belongs to one prefix. It is linear in the tokens.
"""

from __future__ import annotations

CAUSAL_HELPERS: dict[str, str] = {
    "masked_until_now": '''
def masked_until_now(scores: Tensor) -> Tensor:
    """Minus infinity right of the diagonal: row t keeps the columns 1..t."""
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -torch.inf)
''',
    "token_numbers": '''
def token_numbers(x: Tensor) -> Tensor:
    """1..N as a column, (N, 1)."""
    return torch.arange(1, x.shape[-2] + 1, dtype=x.dtype, device=x.device).unsqueeze(-1)
''',
    "chunks": '''
def chunks(x: Tensor) -> Tensor:
    """(..., N, p) -> (..., N / 64, 64, p), zeros behind the last token."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % 64)).unflatten(-2, (-1, 64))
''',
    "sums_before": '''
def sums_before(x: Tensor) -> Tensor:
    """Of a matrix per chunk, (..., chunks, p, p), the sum over the chunks before each."""
    return F.pad(x[..., :-1, :, :].cumsum(-3), (0, 0, 0, 0, 1, 0))
''',
    "added": '''
def added(a: Tensor, b: Tensor, result: Tensor) -> None:
    """Adds a b to a result, matrix by matrix and in place."""
    result.flatten(0, -3).baddbmm_(a.flatten(0, -3), b.flatten(0, -3))
''',
    "causal_product": '''
def causal_product(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """For every token t, the sum over i <= t of a_i (b_i . v_t)."""
    count = v.shape[-2]
    a, b, v = chunks(a), chunks(b), chunks(v)
    result = (v @ b.mT).tril() @ a + v @ sums_before(b.mT @ a)
    return result.flatten(-3, -2)[..., :count, :]
''',
    "solve_per_token": '''
def solve_per_token(
    a: Tensor, b: Tensor, v: Tensor, shift: Tensor | float, scale: Tensor | float, before: Tensor | None = None
) -> Tensor:
    """(shift I + scale S_t)^-1 v_t for every token t; a p x p system each.

    S_t is the sum over i <= t of a_i b_i', and what was there before, (..., p, p).
    """
    shift, scale = (torch.as_tensor(x, dtype=v.dtype, device=v.device).unsqueeze(-1) for x in (shift, scale))
    sums = (a.unsqueeze(-1) * b.unsqueeze(-2)).cumsum(-3)
    sums = sums if before is None else sums + before.unsqueeze(-3)
    matrix = shift * torch.eye(a.shape[-1], dtype=v.dtype, device=v.device) + scale * sums
    return torch.linalg.solve(matrix, v.unsqueeze(-1)).squeeze(-1)
''',
    "prefix_solve": '''
class PrefixSolve(torch.autograd.Function):
    """(shift I + scale S_t)^-1 v_t, S_t the sum over i <= t of w_i w_i'; P is the inverse before each chunk of 64."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, v: Tensor | None, shift: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        count, w = w.shape[-2], chunks(w).contiguous()
        one_by_one = w.device.type == "cpu" and not torch.compiler.is_compiling()
        factored = (PrefixSolve.one_by_one if one_by_one else PrefixSolve.all_at_once)(w, shift, scale)
        inverse, reduced, diagonal = factored
        if v is None:
            result = reduced / diagonal.unsqueeze(-1)
        else:
            result = PrefixSolve.solved(chunks(v), inverse, reduced, scale.unsqueeze(-1))
        return result.flatten(-3, -2)[..., :count, :], w, inverse, reduced, result

    @staticmethod
    def setup_context(ctx, inputs: tuple, outputs: tuple) -> None:
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*outputs[1:], inputs[3].unsqueeze(-1))
        ctx.count, ctx.alone = outputs[0].shape[-2], inputs[1] is None

    @staticmethod
    def all_at_once(w: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Every P from a Cholesky factor of its own, in parallel."""
        shift, scale = shift.unsqueeze(-1), scale.unsqueeze(-1)
        identity = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
        factor = torch.linalg.cholesky_ex(shift * identity + scale * sums_before(w.mT @ w)).L
        root = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        inverse = root.mT @ root
        return inverse, *PrefixSolve.reduced(w, inverse, scale)

    @staticmethod
    def one_by_one(w: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P from that of the chunk before, with half the factors; the lower accuracy is that of the gradient anyway."""
        before = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device) / shift
        before = before.expand(*w.shape[:-3], -1, -1)
        found = []
        for chunk in w.unbind(-3):
            reduced, diagonal = PrefixSolve.reduced(chunk, before, scale)
            found.append((before, reduced, diagonal))
            before = before - scale * (reduced.mT @ reduced)
        inverse, reduced, diagonal = zip(*found, strict=True)
        return torch.stack(inverse, dim=-3), torch.stack(reduced, dim=-3), torch.stack(diagonal, dim=-2)

    @staticmethod
    def reduced(w: Tensor, inverse: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """X = L^-1 w P and the diagonal of L, the Cholesky factor of I + scale w P w'; row t of X solves prefix t."""
        product = w @ inverse
        identity = torch.eye(w.shape[-2], dtype=w.dtype, device=w.device)
        factor = torch.linalg.cholesky_ex(identity + scale * (product @ w.mT)).L
        return torch.linalg.solve_triangular(factor, product, upper=False), factor.diagonal(dim1=-2, dim2=-1)

    @staticmethod
    def solved(v: Tensor, inverse: Tensor, reduced: Tensor, scale: Tensor) -> Tensor:
        """The inverse of every prefix, applied to any vectors."""
        result = v @ inverse
        added((v @ reduced.mT).tril_().mul_(-scale), reduced, result)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """With y the result and h_t the same solve of the gradient: h for v, -scale (h_t y_t' + y_t h_t') for S_t."""
        if gradient is None:
            return None, None, None, None
        w, inverse, reduced, y, scale = ctx.saved_tensors
        with torch.autocast(w.device.type, enabled=False):  # compiled code comes here under that of the forward pass
            h = PrefixSolve.solved(chunks(gradient), inverse, reduced, scale)
            cross = y.mT @ h
            moved = w @ sums_before((cross + cross.mT).flip(-3)).flip(-3)
            added((w @ y.mT).triu_(), h, moved)
            added((w @ h.mT).triu_(), y, moved)
        of_w = (-scale * moved).flatten(-3, -2)[..., : ctx.count, :]
        of_v = h.flatten(-3, -2)[..., : ctx.count, :]
        of_shift = -(h * y).sum_to_size(scale.shape).squeeze(-1)
        of_scale = -(w * moved).sum_to_size(scale.shape).squeeze(-1) / 2
        return (of_w + of_v, None, of_shift, of_scale) if ctx.alone else (of_w, of_v, of_shift, of_scale)


def prefix_solve(w: Tensor, shift: Tensor | float, scale: Tensor | float, v: Tensor | None = None) -> Tensor:
    """(shift I + scale S_t)^-1 v_t for every token t, S_t the sum over i <= t of w_i w_i'; v is w where it is None."""
    heads = w.shape[-3] if w.ndim > 3 else 1
    shift, scale = (torch.as_tensor(x, dtype=w.dtype, device=w.device).expand(heads, 1, 1) for x in (shift, scale))
    return PrefixSolve.apply(w, v, shift, scale)[0]
''',
    "count_now": '''
def count_now(further: int, memory: dict, slot: int) -> int:
    """The number of tokens so far, after further ones."""
    memory[slot] = memory.get(slot, 0) + further
    return memory[slot]
''',
    "numbers_now": '''
def numbers_now(count: int, x: Tensor) -> Tensor:
    """The numbers of the tokens in a text of which the last is number `count`, a column, (tokens, 1)."""
    return torch.arange(count - x.shape[-2] + 1, count + 1, dtype=x.dtype, device=x.device).unsqueeze(-1)
''',
    "places_now": '''
def places_now(text: Tensor, memory: dict, length: int) -> slice:
    """Where further tokens, (batch, tokens), stand in a text; the memory counts them.

    Raises:
        ValueError: where there are none, or, with those before them, more than `length`.
    """
    first = memory.get("count", 0)
    last = first + text.shape[1]
    if not first < last <= length:
        raise ValueError(f"{text.shape[1]} further tokens after {first}: at least 1 is needed, {length} fit in all")
    memory["count"] = last
    return slice(first, last)
''',
    "one_by_one": '''
def one_by_one(step: nn.Module, z: Tensor) -> Tensor:
    """A step's form for one token, of every token, (batch, tokens, d), by itself."""
    return step.single(z) if z.shape[1] == 1 else step.single(z.flatten(0, 1).unsqueeze(1)).reshape(z.shape)
''',
    "total_now": '''
def total_now(x: Tensor, memory: dict, slot: int) -> Tensor:
    """What was given so far, added up; the memory keeps it."""
    memory[slot] = memory.get(slot, 0) + x
    return memory[slot]
''',
    "sum_now": '''
def sum_now(x: Tensor, memory: dict, slot: int) -> Tensor:
    """For every further token, (..., tokens, p), the sum over the tokens up to it; the memory keeps the last."""
    if x.shape[-2] == 1:
        return total_now(x, memory, slot)
    sums = memory.get(slot, 0) + x.cumsum(-2)
    memory[slot] = sums[..., -1:, :].clone()  # a view would hold all of them
    return sums
''',
    "causal_product_now": '''
def causal_product_now(a: Tensor, b: Tensor, v: Tensor, memory: dict, slot: int) -> Tensor:
    """For every further token t, the sum over i <= t of a_i (b_i . v_t); the memory keeps that of b_i a_i'."""
    before = memory.get(slot)
    total = total_now(b.mT @ a, memory, slot)
    if v.shape[-2] == 1:
        return v @ total
    result = causal_product(a, b, v)
    return result if before is None else result + v @ before
''',
    "solve_now": '''
def solve_now(
    a: Tensor, b: Tensor, v: Tensor, shift: Tensor | float, scale: Tensor | float, memory: dict, slot: int
) -> Tensor:
    """(shift I + scale S_t)^-1 v_t for every further token t, S_t the sum over i <= t of a_i b_i'.

    The memory keeps the last S_t, (..., p, p); 16 megabytes of them, or those of one token, are there at a time.
    """
    count = v.shape[-2]
    if count == 1:
        identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        return torch.linalg.solve(shift * identity + scale * total_now(a.mT @ b, memory, slot), v.mT).mT
    numbers = (torch.as_tensor(x, dtype=v.dtype, device=v.device) for x in (shift, scale))
    of_tokens = (a, b, v, *(x.expand(*x.shape[:-2], count, 1) for x in numbers))
    at_once = max(1, 2**22 // (v.numel() // count * v.shape[-1]))
    found = []
    for part in zip(*(x.split(at_once, dim=-2) for x in of_tokens), strict=True):
        found.append(solve_per_token(*part, memory.get(slot)))
        total_now(part[0].mT @ part[1], memory, slot)
    return torch.cat(found, dim=-2)
''',
    "prefix_solve_now": '''
def prefix_solve_now(
    w: Tensor, v: Tensor, shift: Tensor | float, scale: Tensor | float, memory: dict, slot: int
) -> Tensor:
    """(shift I + scale S_t)^-1 v_t for every further token t, S_t the sum over i <= t of w_i w_i'.

    The memory keeps the last S_t, (..., p, p). With L L' = shift I + scale S of what it holds, and x the sum over the
    further tokens alone, the inverse is L'^-1 (I + scale L^-1 x L'^-1)^-1 L^-1.
    """
    if v.shape[-2] == 1:
        return solve_now(w, w, v, shift, scale, memory, slot)
    before, other = memory.get(slot), None if v is w else v
    total_now(w.mT @ w, memory, slot)
    if before is None:
        return prefix_solve(w, shift, scale, other)
    identity = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
    factor = torch.linalg.cholesky_ex(shift * identity + scale * before).L
    turned = (x if x is None else torch.linalg.solve_triangular(factor, x.mT, upper=False).mT for x in (w, other))
    w, other = turned
    return torch.linalg.solve_triangular(factor.mT, prefix_solve(w, 1, scale, other).mT, upper=True).mT
''',
    "attention_now": '''
def attention_now(query: Tensor, key: Tensor, value: Tensor, scale: float, memory: dict, slot: int) -> Tensor:
    """Attention of every further token to those up to it; the memory keeps keys and values of all, and grows."""
    count, before = query.shape[-2], memory.get((slot, 0))
    if before is not None:
        key, value = (torch.cat((memory[slot, n], x), dim=-2) for n, x in enumerate((key, value)))
    memory[slot, 0], memory[slot, 1] = key, value
    if count == 1 or before is None:
        return F.scaled_dot_product_attention(query, key, value, scale=scale, is_causal=count > 1)
    seen = torch.ones(count, key.shape[-2], dtype=torch.bool, device=key.device).tril(key.shape[-2] - count)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale)
''',
}
CAUSAL_NEEDS = {
    "sum_now": ("total_now",),
    "causal_product_now": ("total_now", "causal_product", "chunks", "sums_before"),
    "solve_now": ("total_now", "solve_per_token"),
    "prefix_solve_now": ("total_now", "solve_per_token", "solve_now", "prefix_solve", "chunks", "sums_before", "added"),
    "causal_product": ("chunks", "sums_before"),
    "prefix_solve": ("chunks", "sums_before", "added"),
}
