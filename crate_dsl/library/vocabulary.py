"""Every fixed word of the language with its signature: the table that the checker reads."""

from __future__ import annotations

from crate_dsl.language.vocabulary import AtomSignature, LossSignature, Vocabulary, WordSignature
from crate_dsl.library.approximations import SITES
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.constraints import COLUMNWISE
from crate_dsl.library.standard import FILES

STRUCTURAL = {"plus", "minus", "transpose", "times", "scale", "hadamard", "add_column"}  # written as operators


def _words(*signatures: WordSignature) -> dict[str, WordSignature]:
    return {signature.name: signature for signature in signatures}


VOCABULARY = Vocabulary(
    atoms={
        name: AtomSignature(
            name, atom.arity, atom.shape, atom.smooth, atom.entry is not None, atom.usage, atom.flat, name in COLUMNWISE
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
        WordSignature("text", ("size", "size"), usage="text(length, vocabulary): token numbers below vocabulary"),
        WordSignature("vectors", ("size", "size"), usage="vectors(d, N): N real vectors with d entries"),
    ),
    stems=_words(
        WordSignature(
            "patches", ("size",), ("size", "norm"), "patches(patch), patches(height, width), patches(patch, norm)"
        ),
        WordSignature(
            "convolutions", ("size",), usage="convolutions(patch): halve the image until one place is one patch (XCiT)"
        ),
        WordSignature("embedding", usage="embedding: one learned vector for every word of the vocabulary of a text"),
        WordSignature("vectors", usage="vectors: the vectors of the input, as they are"),
        WordSignature("class_token", usage="class_token: one learned token in front"),
        WordSignature(
            "position", ("learned|sincos|fourier",), usage="position(learned), position(sincos) or position(fourier)"
        ),
    ),
    masks=_words(WordSignature("random", ("fraction",), usage="random(0.75): remove this share of the tokens")),
    norms=_words(
        WordSignature("layer", optional=("positive",), usage="layer or layer(1e-6): LayerNorm with its epsilon")
    ),
    heads=_words(
        WordSignature("classify", ("size",), usage="classify(classes) of class_token, or of mean"),
        WordSignature("patches", usage="patches: the pixels of every patch"),
        WordSignature("vocabulary", (), ("tied",), "vocabulary, or vocabulary(tied): by the transposed embedding"),
        WordSignature("tokens", usage="tokens: the tokens as they are"),
        WordSignature("features", usage="features of class_token, or of mean: what it reads, as it is"),
    ),
    pools=("class_token", "mean"),
    inits=_words(
        WordSignature("orthogonal", usage="orthogonal: orthonormal rows of the stacked maps"),
        WordSignature("normal", ("positive",), usage="normal(0.02): Gaussian of this standard deviation"),
        WordSignature("kaiming", usage="kaiming: uniform, bound sqrt(6 / fan_in) (He et al. 2015)"),
        WordSignature("xavier", usage="xavier: uniform, bound sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)"),
        WordSignature("linear", usage="linear: uniform, bound 1 / sqrt(fan_in), the default of torch.nn.Linear"),
        WordSignature("zeros", usage="zeros"),
        WordSignature("constant", ("real",), usage="constant(0.1): every entry is this number"),
    ),
    readers=_words(
        WordSignature(
            "attention",
            ("size", "size", "positive"),
            usage="attention(blocks, heads, scale): a class token reads all tokens (CaiT), scaled so at the start",
        )
    ),
    depths=_words(
        WordSignature("linear", ("rate",), usage="linear(0.1): from 0 in the first layer to this rate in the last"),
        WordSignature("uniform", ("rate",), usage="uniform(0.1): the same rate in every layer"),
    ),
    losses={
        loss.name: loss
        for loss in (
            LossSignature("cross_entropy", ("classify", "vocabulary"), usage="of the classes, or of every next token"),
            LossSignature("masked_cross_entropy", ("vocabulary",), True, "of the removed tokens"),
            LossSignature("squared_error", ("patches",), usage="mean over the pixels of all patches"),
            LossSignature("masked_squared_error", ("patches",), True, "mean over the pixels of removed patches"),
        )
    },
    energies=FILES,
)
