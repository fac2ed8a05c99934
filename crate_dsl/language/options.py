"""The options of a step: which may stand there, what they say, and what holds without them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crate_dsl.errors import CrateError, Span, known
from crate_dsl.language import syntax
from crate_dsl.language.model import ONE, SCALAR, Shape, SiteRule, Step, Word
from crate_dsl.language.report import Report, names_in, shown, within
from crate_dsl.language.roles import Block, Roles, Tokens, add_declared
from crate_dsl.language.shapes import Environment, Shapes
from crate_dsl.language.sizes import Broken, evaluate, whole_number
from crate_dsl.language.words import check_symbolic, find, word_of

OPTION_NAMES = {
    syntax.NormLine: "norm", syntax.FromOption: "from", syntax.StepOption: "step", syntax.StepsOption: "steps",
    syntax.ResidualOption: "residual", syntax.ReadOption: "read", syntax.CausalOption: "causal",
    syntax.AccelerateOption: "accelerate",
}  # fmt: skip
MAX_ITERATIONS = 100  # they are unrolled
RESIDUALS = ("raw", "normed")
LET = "it is a let of this step, for arguments of its energy and for other lets; write its value here"
FIRST_MOMENTUM = 3  # of FISTA: its weight is 0 after the first iteration
GRADIENT, PROXIMAL, SYNTHESIS = "gradient", "proximal", "synthesis"
MAP, SOLUTION = "map", "solution"  # a proximal map of the tokens themselves, the minimiser of an energy
ALLOWED = {
    GRADIENT: {"norm", "step", "residual", "causal"},
    PROXIMAL: {"norm", "from", "step", "steps", "accelerate", "residual", "read"},
    SYNTHESIS: {"norm", "residual"},
    MAP: {"norm", "step"},
    SOLUTION: {"norm", "residual", "read"},
}
INSTEAD = {
    **{
        ("accelerate", kind): "momentum needs iterations, which sparsify has: steps 5 of eta"
        for kind in (GRADIENT, SYNTHESIS, MAP, SOLUTION)
    },
    **{
        ("causal", kind): "leave it out: a step that acts on every token by itself is causal as it is"
        for kind in (PROXIMAL, SYNTHESIS, MAP, SOLUTION)
    },
    ("from", GRADIENT): "a gradient step starts at the tokens; from is an option of sparsify",
    ("steps", GRADIENT): 'a gradient step has one size: "step kappa"',
    ("read", GRADIENT): "a gradient step moves the tokens themselves; read is an option of sparsify",
    ("from", SYNTHESIS): "a synthesis is solved at once and starts nowhere",
    ("step", SYNTHESIS): "a synthesis is solved at once and has no step size",
    ("steps", SYNTHESIS): "a synthesis is solved at once and has no step size",
    ("read", SYNTHESIS): "a synthesis puts the unknown in the place of the tokens; read is an option of sparsify",
    ("from", MAP): "a proximal map starts nowhere: it is applied to the tokens",
    ("steps", MAP): 'a proximal map is applied once, with one size: "step eta"',
    ("residual", MAP): "a proximal map puts its value in the place of the tokens",
    ("read", MAP): "a proximal map keeps the shape of the tokens; read is an option of sparsify and solve",
    ("from", SOLUTION): "the minimiser is found at once and starts nowhere",
    ("step", SOLUTION): "the minimiser is found at once and has no step size",
    ("steps", SOLUTION): "the minimiser is found at once and has no step size",
}


@dataclass(frozen=True)
class Draft:
    """A step without its label, which depends on the other steps of its block."""

    statement: syntax.StepStatement
    options: dict[str, syntax.Option]
    roles: Roles | None
    kind: str


def collect(statement: syntax.StepStatement, report: Report) -> dict[str, syntax.Option]:
    """The options that may stand once, by name."""
    found: dict[str, syntax.Option] = {}
    for option in statement.options:
        name = OPTION_NAMES.get(type(option))
        if name in found:
            report.error(f'a second "{name}" in one step', option.span, "", [(found[name].span, "the first is here")])
        elif name:
            found[name] = option
    if "step" in found and "steps" in found:
        report.error(
            '"step" and "steps" in one step',
            found["steps"].span,
            "keep one",
            [(found["step"].span, "the other is here")],
        )
    return found


class Options:
    """Checks the options one by one; `step` puts them together."""

    def __init__(self, draft: Draft, block: Block) -> None:
        self.draft, self.block, self.report = draft, block, block.report
        self._allowed()
        self.norm = self._norm()
        self.size, self.iterations = self._size()
        self.residual = self._residual()
        self.sites = self._sites()
        self._only_gradients_have_sites()
        self._momentum()
        self._per_iteration()
        self.start = self._start()

    def step(self, label: str, tokens: Tokens) -> Step:
        draft, roles, read = self.draft, self.draft.roles, self.draft.options.get("read")
        return Step(
            draft.statement.verb, label, tokens.name, roles.energy, roles.actuals,
            roles.unknown.name if roles.unknown else None, self.norm, self.residual, self.size, self.iterations,
            self.start, read.name if read else None, self.sites, draft.statement.span, "causal" in draft.options,
            tuple(let for let in self.block.lets.values() if let), "accelerate" in draft.options,
        )  # fmt: skip

    def _allowed(self) -> None:
        if self.draft.statement.verb == "denoise" and self.draft.roles is None:
            return  # whether it ascends or solves is not known
        for name, option in self.draft.options.items():
            if name not in ALLOWED[self.draft.kind]:
                verb = self.draft.statement.verb
                self.report.error(f'"{name}" is no option of this {verb}', option.span, INSTEAD[name, self.draft.kind])

    def _norm(self) -> Word | None:
        line = self.draft.options.get("norm")
        return word_of("norm", line.word, self.block.vocabulary.norms, self.block.scope, self.report) if line else None

    def _residual(self) -> str | None:
        option = self.draft.options.get("residual")
        if option is None:
            return "raw" if self.draft.kind == GRADIENT else None
        if option.word not in (None, *RESIDUALS):
            self.report.error(f'unknown residual "{option.word}"', within(option.span, option.word),
                              known("residuals", option.word, RESIDUALS))  # fmt: skip
        if option.word == "normed" and "norm" not in self.draft.options:
            self.report.warn(
                '"residual normed" in a step without a norm', option.span, 'add "norm layer", or write "residual raw"'
            )
        return option.word or "raw"

    def _size(self) -> tuple[syntax.Expression | None, int]:
        option = self.draft.options.get("step") or self.draft.options.get("steps")
        if option is None:
            return None, 1
        self._check_size(option.size)
        if isinstance(option, syntax.StepOption):
            return option.size, 1
        try:
            return option.size, whole_number(option.count, self.block.scope, "the number of steps", MAX_ITERATIONS)
        except CrateError as error:
            self.report.absorb(*error.diagnostics)
        except Broken:
            pass
        return option.size, 1

    def _check_size(self, size: syntax.Expression) -> None:
        shapes = Shapes(self.block.vocabulary)
        shape = shapes.of(size, with_declared(self.block))
        self.report.absorb(*shapes.diagnostics)
        if shape is None or self._per_feature(shape, size):
            return
        if shape != SCALAR:
            rows = self.block.tokens.shape.rows if self.block.tokens else "d"
            hint = f"or a learned column of {rows} numbers, one for each feature: {rows} x 1"
            hint = hint if self.draft.kind == GRADIENT else ""
            self.report.error(f"a step size is a number, and this is {shape}", size.span, hint)
        learned = [self.block.learned[name] for name in names_in(size) if name in self.block.learned]
        for scalar in (scalar for scalar in learned if scalar.per_head):
            scalar.belongs_to(self._family(), size.span, self.report)
        if not learned:
            self._check_positive(size)

    def _per_feature(self, shape: Shape, size: syntax.Expression) -> bool:
        """Whether the size is a learned vector, one number for each feature of the tokens."""
        tokens = self.block.tokens
        if self.draft.kind != GRADIENT or tokens is None or shape != Shape(tokens.shape.rows, ONE):
            return False
        for name in dict.fromkeys(names_in(size)):  # in the order of the text, whatever the order of sets
            if name in self.block.declared:
                add_declared(name, self.block)
        return True

    def _family(self) -> str | None:
        if self.draft.roles is None or self.draft.kind != GRADIENT:
            return None
        families = {a.shape.family for a in self.draft.roles.energy.arguments if a.shape.family}
        return families.pop() if len(families) == 1 else None

    def _check_positive(self, size: syntax.Expression) -> None:
        try:
            value = evaluate(size, self.block.scope)
        except (CrateError, Broken):
            return  # a root, say: symbolic and well shaped, but no exact number
        if value <= 0:
            self.report.error(f"the step size is {shown(value)}", size.span, "it must be greater than 0")

    def _sites(self) -> tuple[SiteRule, ...]:
        found: dict[str, SiteRule] = {}
        for line in self.draft.statement.options:
            if isinstance(line, syntax.SiteLine):
                rule = self._site(line, found)
                found.setdefault(line.site, rule)
        return tuple(found.values())

    def _site(self, line: syntax.SiteLine, found: dict[str, SiteRule]) -> SiteRule:
        sites, place = self.block.vocabulary.sites, within(line.span, line.site)
        if line.site not in sites:
            self.report.error(f'unknown site "{line.site}"', place, known("sites", line.site, sites))
        elif signature_ := find("rule", line.rule, sites[line.site], self.report, f' for "{line.site}"'):
            check_symbolic(
                line.rule, signature_, self.block.scope, numbers_of(self.block), self.block.vocabulary, self.report
            )
        if line.site in found:
            note = (found[line.site].span, "the first is here")
            self.report.error(f'site "{line.site}" is approximated twice', place, "one rule replaces one site", [note])
        return SiteRule(line.site, line.rule.name, line.rule.arguments, line.span)

    def _per_iteration(self) -> None:
        """Scalars that are learned per iteration get their number of iterations from the steps that use them."""
        actuals = self.draft.roles.actuals.values() if self.draft.roles else ()
        places = dict.fromkeys(actuals, self.draft.statement.use.span)
        option = self.draft.options.get("step") or self.draft.options.get("steps")
        places |= dict.fromkeys(names_in(option.size), option.size.span) if option else {}
        places |= {name: site.span for site in self.sites for argument in site.arguments for name in names_in(argument)}
        taken = {*self.block.scalars.shapes, *self.block.weights}
        count = self.iterations if self.draft.kind == PROXIMAL else None
        for name, place in places.items():
            if name in self.block.learned and self.block.learned[name].per_iteration:
                self.block.learned[name].iterates(count, place, taken, self.report)

    def _momentum(self) -> None:
        option = self.draft.options.get("accelerate")
        if option and "accelerate" in ALLOWED[self.draft.kind] and self.iterations < FIRST_MOMENTUM:
            message = f"momentum acts from iteration {FIRST_MOMENTUM} on, and there are fewer"
            self.report.warn(message, option.span, f"take more: steps {2 * FIRST_MOMENTUM} of eta")

    def _only_gradients_have_sites(self) -> None:
        undecided = self.draft.statement.verb == "denoise" and self.draft.roles is None
        known = [site for site in self.sites if site.site in self.block.vocabulary.sites]
        if self.draft.kind != GRADIENT and known and not undecided:
            verb = self.draft.statement.verb
            hint = "sites are factors of a gradient step; compress, descend and ascend are such"
            self.report.error(f"nothing is approximated in a {verb}", known[0].span, hint)

    def _start(self) -> str:
        option, roles, tokens = self.draft.options.get("from"), self.draft.roles, self.block.tokens
        fits = roles is None or tokens is None or roles.unknown is None or roles.unknown.shape == tokens.shape
        if option is None:
            return "tokens" if fits else "zero"
        if isinstance(option.start, syntax.Number):
            if option.start.value != 0:
                self.report.error(
                    "a code starts from the tokens or from 0",
                    option.start.span,
                    f"write: from {self._tokens_name()}, or: from 0",
                )
            return "zero"
        if tokens and option.start.name != tokens.name:
            hint = f'write "from {tokens.name}" or "from 0"'
            self.report.error(f'a step cannot start from "{option.start.name}"', option.start.span, hint)
        elif not fits:
            message = f"the code ({roles.unknown.shape}) cannot start from the tokens ({tokens.shape})"
            self.report.error(message, option.span, "write: from 0", _shape_notes(roles, tokens))
        return "tokens"

    def _tokens_name(self) -> str:
        return self.block.tokens.name if self.block.tokens else "Z"


def numbers_of(block: Block) -> Environment:
    """The numbers of a block; quantities of the step being checked are none, whatever their value."""
    broken = frozenset(name for name, let in block.lets.items() if let is None)
    return replace(block.scalars, refused=dict.fromkeys(block.lets, LET), broken=broken)


def with_declared(block: Block) -> Environment:
    """The numbers and the declared learned matrices of a block."""
    shapes = {name: declared.shape for name, declared in block.declared.items()}
    origins = {name: declared.span for name, declared in block.declared.items()}
    numbers = numbers_of(block)
    return replace(numbers, shapes={**shapes, **numbers.shapes}, origins={**origins, **numbers.origins})


def _shape_notes(roles: Roles, tokens: Tokens) -> list[tuple[Span, str]]:
    return [(roles.variable.span, "the code is declared here"), (tokens.span, "the tokens come from here")]
