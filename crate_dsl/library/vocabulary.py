"""Every fixed word of the language with its signature: the table that the checker reads."""

from __future__ import annotations

from crate_dsl.language.vocabulary import AtomSignature, Vocabulary, WordSignature
from crate_dsl.library.approximations import SITES
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.constraints import COLUMNWISE

STRUCTURAL = {"plus", "minus", "transpose", "times", "scale", "hadamard"}  # written as operators, not by name


def _words(*signatures: WordSignature) -> dict[str, WordSignature]:
    return {signature.name: signature for signature in signatures}


VOCABULARY = Vocabulary(
    atoms={
        name: AtomSignature(
            name, atom.arity, atom.shape, atom.smooth, atom.entry is not None, atom.usage, name in COLUMNWISE
        )
        for name, atom in ATOMS.items()
        if name not in STRUCTURAL
    },
    sites={
        site: {name: WordSignature(name, rule.required, rule.optional, rule.usage) for name, rule in rules.items()}
        for site, rules in SITES.items()
    },
    inputs=_words(
        WordSignature("image", ("size", "size", "size"), usage="image(channels, height, width)"),
        WordSignature("vectors", ("size", "size"), usage="vectors(d, N): N real vectors with d entries"),
    ),
    stems=_words(
        WordSignature(
            "patches", ("size",), ("size", "norm"), "patches(patch), patches(height, width), patches(patch, norm)"
        ),
        WordSignature("vectors", usage="vectors: the vectors of the input, as they are"),
        WordSignature("class_token", usage="class_token: one learned token in front"),
        WordSignature("position", ("learned|sincos",), usage="position(learned) or position(sincos)"),
    ),
    masks=_words(WordSignature("random", ("fraction",), usage="random(0.75): remove this share of the patches")),
    norms=_words(
        WordSignature("layer", optional=("positive",), usage="layer or layer(1e-6): LayerNorm with its epsilon")
    ),
    heads=_words(
        WordSignature("classify", ("size",), usage="classify(classes) of class_token, or of mean"),
        WordSignature("patches", usage="patches: the pixels of every patch"),
        WordSignature("tokens", usage="tokens: the tokens as they are"),
    ),
    pools=("class_token", "mean"),
    inits=_words(
        WordSignature("orthogonal", usage="orthogonal: orthonormal rows of the stacked maps"),
        WordSignature("normal", ("positive",), usage="normal(0.02): Gaussian of this standard deviation"),
        WordSignature("kaiming", usage="kaiming: uniform, bound sqrt(6 / fan_in) (He et al. 2015)"),
        WordSignature("xavier", usage="xavier: uniform, bound sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)"),
        WordSignature("linear", usage="linear: uniform, bound 1 / sqrt(fan_in), the default of torch.nn.Linear"),
        WordSignature("zeros", usage="zeros"),
    ),
)
