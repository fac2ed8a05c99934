"""Trees of lark -> nodes of `syntax.py`: one method per rule of the grammar."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from lark import Token, Tree

from crate_dsl.errors import CompilerBug, Source, Span, fail
from crate_dsl.language import syntax

MAX_DEPTH = 100  # of nested expressions: everything downstream may recurse
MAX_NAME = 64
MAX_DIGITS = 30


class Builder:
    """Builds the nodes of one source; every method receives the parts of its rule, already built, and the span."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def build(self, tree: Tree | Token) -> Any:
        """The node of a tree.

        Raises:
            CrateError: where soft words are wrong (`x` in a shape), or something is too long or too deep.
        """
        _check_depth(tree, self)
        return self._build(tree)

    def _build(self, tree: Tree | Token) -> Any:
        if isinstance(tree, Token):
            return self._token(tree)
        method = getattr(self, tree.data, None)
        if method is None:
            raise CompilerBug(f"no method builds {tree.data}")
        return method([self._build(child) for child in tree.children], self.span(tree.meta))

    def span(self, token: Any) -> Span:
        return Span(self.source, token.start_pos, token.end_pos)

    def _token(self, token: Token) -> Token | syntax.Name | syntax.Number:
        match token.type:
            case "NAME":
                return self.checked_name(token)
            case "NUMBER":
                return syntax.Number(self.span(token), self._value(token))
        return token

    def checked_name(self, token: Token) -> syntax.Name:
        if len(token) > MAX_NAME:
            raise fail(f"this name has {len(token)} characters", self.span(token), f"at most {MAX_NAME} are allowed")
        return syntax.Name(self.span(token), str(token))

    def _value(self, token: Token) -> Fraction:
        mantissa, _, exponent = token.lower().partition("e")
        digits = exponent.lstrip("+-").lstrip("0")
        if len(mantissa) > MAX_DIGITS or len(digits) > 2 or int(digits or 0) > syntax.MAX_EXPONENT:
            hint = f"at most {MAX_DIGITS} digits and exponents of at most {syntax.MAX_EXPONENT} are kept exactly"
            raise fail("this number is too long to be meant", self.span(token), hint)
        return Fraction(str(token))

    # ---- declarations ------------------------------------------------------------------------------------------------

    def network(self, parts: list, span: Span) -> tuple[syntax.Name, str]:
        return parts[0], str(parts[1])[1:-1] if len(parts) > 1 else ""

    def sizes(self, parts: list, span: Span) -> syntax.Sizes:
        return syntax.Sizes(span, tuple(parts))

    def reals(self, parts: list, span: Span) -> syntax.Reals:
        return syntax.Reals(span, tuple(parts))

    def binding(self, parts: list, span: Span) -> syntax.Binding:
        return syntax.Binding(span, parts[0].name, parts[1])

    def preset(self, parts: list, span: Span) -> syntax.Preset:
        return syntax.Preset(span, parts[0].name, _nodes(parts[1:]))

    def learns(self, parts: list, span: Span) -> syntax.Learns:
        matrices = tuple(part for part in parts if isinstance(part, syntax.LearnMatrix))
        return syntax.Learns(span, tuple(part for part in parts if part not in matrices), matrices)

    def learn(self, parts: list, span: Span) -> syntax.Learn:
        per = parts[-1] if isinstance(parts[-1], str) else ""
        name, *values = parts[:-1] if per else parts
        above = values[0] if len(values) == 2 else None
        return syntax.Learn(span, name.name, above, values[-1], per == "head", per == "iteration")

    def learn_matrix(self, parts: list, span: Span) -> syntax.LearnMatrix:
        return syntax.LearnMatrix(span, parts[0].name, parts[1], parts[2])

    def per(self, parts: list, span: Span) -> str:
        first, what = parts[0].name, parts[1].name if isinstance(parts[1], syntax.Name) else str(parts[1])
        if first != "per" or what not in ("head", "iteration"):
            wanted = "per iteration" if what[:1] == "i" else "per head"
            layer = "what is learned in a block is each layer's own; " if what == "layer" else ""
            raise fail(f'"{first} {what}" is not understood here', span, f'{layer}did you mean "{wanted}"?')
        return what

    def energy(self, parts: list, span: Span) -> syntax.EnergyDeclaration:
        name, first, *rest = parts
        variables, given = (first, rest[0]) if len(rest) == 2 else (first[:1], first[1:])
        return syntax.EnergyDeclaration(span, name.name, variables, given, rest[-1])

    def arguments(self, parts: list, span: Span) -> tuple[syntax.Argument, ...]:
        return tuple(parts)

    def argument(self, parts: list, span: Span) -> syntax.Argument:
        return syntax.Argument(span, parts[0].name, parts[1])

    def dimensions(self, parts: list, span: Span) -> syntax.Dimensions:
        *family, rows, cross, cols = (part for part in parts if not isinstance(part, Token))
        if cross.name != "x":
            raise fail(
                f'"{cross.name}" where "x" should stand', cross.span, 'a shape is written "d x N": rows x columns'
            )
        return syntax.Dimensions(span, rows, cols, family[0] if family else None)

    def real_number(self, parts: list, span: Span) -> syntax.Dimensions:
        return syntax.Dimensions(span, None, None)

    def axis(self, parts: list, span: Span) -> syntax.Name | syntax.Number:
        return parts[0]

    def input(self, parts: list, span: Span) -> syntax.Input:
        return syntax.Input(span, parts[0])

    def tokens_line(self, parts: list, span: Span) -> syntax.TokensLine:
        return syntax.TokensLine(span, parts[0].name, parts[1], _nodes(parts[2:]))

    def mask(self, parts: list, span: Span) -> syntax.MaskLine:
        return syntax.MaskLine(span, parts[0], parts[1])

    def norm(self, parts: list, span: Span) -> syntax.NormLine:
        return syntax.NormLine(span, parts[0])

    def head(self, parts: list, span: Span) -> syntax.HeadLine:
        words = _nodes(parts)
        return syntax.HeadLine(span, words[0], words[1] if len(words) > 1 else None)

    def whole(self, parts: list, span: Span) -> syntax.Call:
        return syntax.Call(span, str(parts[0]))

    def init(self, parts: list, span: Span) -> syntax.InitLine:
        return syntax.InitLine(span, parts[0], parts[1])

    def target(self, parts: list, span: Span) -> str:
        return parts[0].name if isinstance(parts[0], syntax.Name) else str(parts[0])

    def include(self, parts: list, span: Span) -> syntax.Include:
        path = isinstance(parts[0], Token)
        return syntax.Include(span, str(parts[0])[1:-1] if path else parts[0].name, path)

    def loss(self, parts: list, span: Span) -> syntax.LossLine:
        signs = ["PLUS", *(part.type for part in parts if isinstance(part, Token))]
        terms = zip(signs, _nodes(parts), strict=True)
        return syntax.LossLine(span, tuple(replace(term, negative=sign == "MINUS") for sign, term in terms))

    def loss_term(self, parts: list, span: Span) -> syntax.LossTerm:
        return syntax.LossTerm(span, False, parts[0], parts[1] if len(parts) > 1 else None)

    def stochastic(self, parts: list, span: Span) -> syntax.DepthLine:
        name, word = parts
        if name.name != "depth":
            hint = 'did you mean "stochastic depth"?'
            raise fail(f'"stochastic {name.name}" is not understood here', name.span, hint)
        return syntax.DepthLine(span, word)

    def reader(self, parts: list, span: Span) -> syntax.ClassLine:
        return syntax.ClassLine(span, parts[0])

    # ---- blocks ------------------------------------------------------------------------------------------------------

    def block(self, parts: list, span: Span) -> syntax.BlockDeclaration:
        role, *rest = (part for part in parts if not isinstance(part, Token))
        once = syntax.Number(span, Fraction(1))
        repeat = rest.pop(0) if rest and isinstance(rest[0], syntax.Expression) else once
        return syntax.BlockDeclaration(span, role, repeat, tuple(rest))

    def inverse(self, parts: list, span: Span) -> syntax.InverseDeclaration:
        role, *rest = parts
        repeat = rest.pop(0) if not isinstance(rest[1], str) else None
        word, of, *changes = rest
        if word.name != "inverse":
            raise fail(f'unknown word "{word.name}"', word.span, f'a {role} is derived by "= inverse(encoder)"')
        return syntax.InverseDeclaration(span, role, repeat, of, changes[0] if changes else ())

    def role(self, parts: list, span: Span) -> str:
        return str(parts[0])

    verb = role

    def repeat(self, parts: list, span: Span) -> syntax.Expression:
        return parts[0]

    def changes(self, parts: list, span: Span) -> tuple[syntax.Binding, ...]:
        return tuple(parts)

    def shared(self, parts: list, span: Span) -> syntax.Shared:
        return syntax.Shared(span, tuple(parts))

    def step_statement(self, parts: list, span: Span) -> syntax.StepStatement:
        verb, tokens, use, *options = parts
        return syntax.StepStatement(span, verb, tokens.name, use, options[0] if options else ())

    def project(self, parts: list, span: Span) -> syntax.StepStatement:
        """A step on the tokens, whatever they are called, by the constraint that is named."""
        name = _nodes(parts)[0]
        return syntax.StepStatement(span, "project", "", syntax.EnergyUse(name.span, name.name, (), (), False), ())

    def use(self, parts: list, span: Span) -> syntax.EnergyUse:
        name, first, *rest = parts
        variables, given = (first, rest[0]) if rest else ((), first)
        return syntax.EnergyUse(span, name.name, variables, given, bool(rest))

    def names(self, parts: list, span: Span) -> tuple[syntax.Name, ...]:
        return tuple(parts)

    def options(self, parts: list, span: Span) -> tuple[syntax.Option, ...]:
        return _nodes(parts)

    def site(self, parts: list, span: Span) -> syntax.SiteLine:
        return syntax.SiteLine(span, parts[0].name, parts[1])

    def start(self, parts: list, span: Span) -> syntax.FromOption:
        return syntax.FromOption(span, parts[0])

    def step(self, parts: list, span: Span) -> syntax.StepOption:
        return syntax.StepOption(span, parts[0])

    def steps(self, parts: list, span: Span) -> syntax.StepsOption:
        return syntax.StepsOption(span, *_nodes(parts))

    def accelerate(self, parts: list, span: Span) -> syntax.AccelerateOption:
        return syntax.AccelerateOption(span)

    def residual(self, parts: list, span: Span) -> syntax.ResidualOption:
        return syntax.ResidualOption(span, parts[0].name if parts else None)

    def read(self, parts: list, span: Span) -> syntax.ReadOption:
        return syntax.ReadOption(span, parts[0].name)

    def causal(self, parts: list, span: Span) -> syntax.CausalOption:
        return syntax.CausalOption(span)

    def let(self, parts: list, span: Span) -> syntax.LetOption:
        name, *bound, value = _nodes(parts)
        index, family = (part.name for part in bound) if bound else (None, None)
        return syntax.LetOption(span, name.name, index, family, value)

    def given(self, parts: list, span: Span) -> syntax.LetOption:
        return replace(self.let(parts, span), given=True)

    # ---- expressions -------------------------------------------------------------------------------------------------

    def word(self, parts: list, span: Span) -> syntax.Call:
        return syntax.Call(span, parts[0].name, tuple(parts[1:]))

    call = word

    def bare(self, parts: list, span: Span) -> syntax.Name:
        return syntax.Name(span, str(parts[0]))

    def binary(self, parts: list, span: Span) -> syntax.Binary:
        return syntax.Binary(span, str(parts[1]), parts[0], parts[2])

    def negate(self, parts: list, span: Span) -> syntax.Negate:
        return syntax.Negate(span, _nodes(parts)[0])

    def transpose(self, parts: list, span: Span) -> syntax.Transpose:
        return syntax.Transpose(span, parts[0])

    def family_sum(self, parts: list, span: Span) -> syntax.FamilySum:
        index, family, body = _nodes(parts)
        return syntax.FamilySum(span, index.name, family.name, body)

    def family_word(self, parts: list, span: Span) -> syntax.FamilySoftmax:
        word, index, family, body = _nodes(parts)
        if word.name != "softmax":
            hint = '"sum(k in K) term" adds a family up, "softmax(k in K) term" makes its members shares of one'
            raise fail(f'"{word.name}" does not run over a family', word.span, hint)
        return syntax.FamilySoftmax(span, index.name, family.name, body)

    def number(self, parts: list, span: Span) -> syntax.Number:
        return parts[0]

    def name(self, parts: list, span: Span) -> syntax.Name:
        return parts[0]

    def member(self, parts: list, span: Span) -> syntax.Name:
        return syntax.Name(span, parts[0].name, parts[1].name)

    def group(self, parts: list, span: Span) -> syntax.Expression:
        return _nodes(parts)[0]


def _nodes(parts: list) -> tuple:
    """The parts without the separators and operators among them."""
    return tuple(part for part in parts if not isinstance(part, Token))


def _check_depth(tree: Tree | Token, builder: Builder) -> None:
    """Without recursion, since this is what guards the recursion of everything else."""
    pending = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            hint = f"at most {MAX_DEPTH} levels are allowed; split the expression"
            raise fail("this is nested too deeply", builder.span(getattr(node, "meta", node)), hint)
        if isinstance(node, Tree):
            pending += [(child, depth + 1) for child in node.children]
