"""Byte-pair encoding: deterministic, what the library says, packed, kept with a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from runtime import evaluate, sample, train
from runtime.errors import UserError
from runtime.network import TextShape
from runtime.recipe import recipes
from runtime.recipe.schema import SOURCES
from runtime.storage.run_folder import RunFolder, recipe_in
from runtime.text.alphabet import HIDDEN, decoded
from runtime.text.subwords import END_OF_TEXT, Subwords, read, trained
from tests.runtime.conftest import Train

DOCUMENTS = ["the cat sat on the mat", "\u00e4lter \U0001f642 the hat\n\tcat", "", "that that that"]
ALPHABET = trained(DOCUMENTS * 3, 280)


def test_texts_come_back() -> None:
    for text in [*DOCUMENTS, "unseen \u4e2d\u6587 \x00 \r\n  spaces"]:
        tokens = ALPHABET.encode(text)
        assert tokens.dtype == torch.int64 and all(0 <= token < ALPHABET.size for token in tokens.tolist())
        assert decoded(ALPHABET, tokens.tolist()) == text
    assert ALPHABET.size == 280
    assert len(ALPHABET.encode(" the")) == 1, "frequent words are one token"
    assert decoded(ALPHABET, [*ALPHABET.encode("cat").tolist(), HIDDEN]) == "cat\u2592"


def test_a_character_appears_with_its_last_token() -> None:
    tokens = ALPHABET.encode("\u4e2d").tolist()
    assert len(tokens) == 3
    decode = ALPHABET.decoder()
    assert [decode(token) for token in tokens] == ["", "", "\u4e2d"]


def test_merges_are_those_of_the_definition() -> None:
    """Sennrich et al. 2016 by counting: the most frequent pair of neighbours first."""
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    pieces = Counter(tuple(word) for word in words)
    for count_of_merges in range(1, 5):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in pieces.items():
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += count
        best = max(pairs.values())
        ties = {pair for pair, count in pairs.items() if count == best}
        merges = json.loads(trained(words, 257 + count_of_merges).text)["model"]["merges"]
        left, right = merges[-1]
        assert (left, right) in ties
        pieces = Counter({merged(word, left, right): count for word, count in pieces.items()})


def merged(word: tuple[str, ...], left: str, right: str) -> tuple[str, ...]:
    done: list[str] = []
    for piece in word:
        if done and (done[-1], piece) == (left, right):
            done[-1] += piece
        else:
            done.append(piece)
    return tuple(done)


TRAIN = """
import hashlib, pydoc_data.topics
from runtime.text.subwords import trained
text = trained(list(pydoc_data.topics.topics.values()), 600).text
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_training_is_a_function_of_the_text() -> None:
    """Also with several threads, and whatever the order of Python's hashes."""
    found = set()
    for threads, hashes in (("1", "0"), ("2", "1")):
        surroundings = {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hashes, "PATH": ""}
        command = [sys.executable, "-c", TRAIN]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, env=surroundings, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_documents_are_packed_with_an_end_of_text_between() -> None:
    tokens = ALPHABET.packed(DOCUMENTS)
    assert (tokens == ALPHABET.end).sum() == len(DOCUMENTS)
    assert decoded(ALPHABET, tokens.tolist()) == END_OF_TEXT.join([*DOCUMENTS, ""])
    written_out = ALPHABET.encode(f"the cat{END_OF_TEXT}sat")
    assert (written_out == ALPHABET.end).sum() == 1


def text_source(**options: object) -> object:
    return SOURCES["text"](tokens="bpe", **options)


def test_windows_of_a_text(tmp_path: Path) -> None:
    source = text_source(vocabulary=400)
    splits = source.open(TextShape(16, 400))
    topics, _ = source.documents()
    alphabet = source.alphabet()
    whole = alphabet.packed(topics)
    assert torch.equal(splits.train.take(range(40), None).inputs.flatten(), whole[: 40 * 16])
    assert splits.train.take([0], None).inputs.dtype == torch.int64
    assert len(whole) < 0.6 * len("".join(topics).encode()), "fewer tokens than bytes"
    with pytest.raises(UserError, match="has 400 tokens, the network's vocabulary is 256: sizes.vocabulary=400"):
        source.open(TextShape(16, 256))


def test_a_text_too_short_for_its_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("ab ab ab ab " * 20)
    source = text_source(vocabulary=5000, file=file)
    size = source.alphabet().size
    assert 257 < size < 300
    with pytest.raises(UserError, match=f"has {size} tokens, .* 5000: sizes.vocabulary={size}"):
        source.open(TextShape(4, 5000))


def test_a_tokenizer_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(ALPHABET.text)
    assert Tokenizer.from_file(str(file)).encode("the cat").ids == ALPHABET.encode("the cat").tolist()
    source = text_source(tokenizer=file)
    assert source.alphabet().text == ALPHABET.text
    splits = source.open(TextShape(16, 280))
    assert splits.train.take([0], None).inputs.max() < 280


def test_the_end_of_a_text_has_the_name_that_is_asked_for(tmp_path: Path) -> None:
    source = text_source(vocabulary=300, end_of_text="<|doc|>")
    source.keep(tmp_path)
    kept = source.kept(tmp_path).alphabet()
    assert decoded(kept, [kept.end]) == "<|doc|>" and END_OF_TEXT not in kept.text
    assert (source.open(TextShape(16, 300)).train.tokens == kept.end).sum() == len(source.documents()[0])


def test_what_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.json: cannot read the tokenizer: No such file"):
        read(tmp_path / "absent.json", END_OF_TEXT)
    for content in ("{", '{"model": 3}', "[]", "\x00"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UserError, match="bad.json: not a tokenizer.json"):
            read(tmp_path / "bad.json", END_OF_TEXT)
    words = Tokenizer(models.WordLevel({"a": 0, "[SEP]": 1}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["[SEP]"])
    words.save(str(tmp_path / "words.json"))
    with pytest.raises(
        UserError, match=r'has no token "<|endoftext|>" .*data.end_of_text.*known special tokens: \[SEP\]'
    ):
        read(tmp_path / "words.json", END_OF_TEXT)
    assert isinstance(read(tmp_path / "words.json", "[SEP]"), Subwords)
    with pytest.raises(UserError, match="not UTF-8"):
        ALPHABET.encode("\udcff")
    with pytest.raises(UserError, match="not UTF-8"):
        trained(["\udcff"], 300)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.tokens=bpe"], "bpe takes vocabulary .* or tokenizer"),
        (["data.tokens=bpe", "data.vocabulary=300", "data.tokenizer=x.json"], "bpe takes vocabulary .* or tokenizer"),
        (["data.vocabulary=300"], "vocabulary is for tokens: bpe"),
        (["data.end_of_text=<end>"], "end_of_text is for tokens: bpe"),
        (["data.tokens=bpe", "data.vocabulary=100"], "data.vocabulary: .*greater than or equal to 258"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipes.load(recipes.find("gpt_text"), words)


def test_a_run_keeps_its_tokenizer(tiny_run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sampled, shown and resumed with the very tokens it was trained with, whatever became of the text."""
    file = tmp_path / "text.txt"
    file.write_text("the cat sat on the mat. " * 200)
    words = ["data.tokens=bpe", "data.vocabulary=265", f"data.file={file}", "sizes.vocabulary=265", "sizes.length=8"]
    run = tiny_run("crate_gpt", *words, "batch=8", steps=4)
    kept = (run / "tokenizer.json").read_text(encoding="utf-8")
    assert "the" in (run / "pictures" / "held_out.txt").read_text(encoding="utf-8")
    file.write_text("zebras are quick. " * 200)
    assert recipe_in(RunFolder(run)).data.alphabet().text == kept
    capsys.readouterr()
    sample.main([str(run), "--tokens", "20", "--prompt", "the "])
    first = capsys.readouterr().out
    sample.main([str(run), "--tokens", "20", "--prompt", "the "])
    assert first == capsys.readouterr().out and first.startswith("the ")
    evaluate.main([str(run)])
    with pytest.raises(UserError, match="is finished"):
        train.main(["--resume", str(run)])
