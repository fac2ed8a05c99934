"""Text: alphabets, windows, what is held out, tasks against formulas written out, training and sampling."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl
from runtime import compare, sample, seeds, train
from runtime.data.source import Batch
from runtime.data.text import documentation, parted
from runtime.errors import UserError
from runtime.network import Shape, TextShape
from runtime.recipe.schema import SOURCES, TASKS
from runtime.scoring.measure import measure, reference_of
from runtime.storage.log import read_metrics
from runtime.storage.run_folder import RunFolder, recipe_in
from runtime.storage.trained import network_of
from runtime.text.alphabet import HIDDEN, Bytes, Characters, decoded, harmless
from runtime.text.source import joined
from runtime.text.windows import Windows
from runtime.training.sampler import Batches, in_order
from runtime.variants import side_by_side
from tests.runtime.conftest import SPECS, Train

SHAPE = TextShape(16, 256)
TEXT = "Zu \u00e4lter, \U0001f642 \u2713\n" * 40


# ---- alphabets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alphabet", [Bytes(), Characters("".join(sorted(set(TEXT))))], ids=["bytes", "characters"])
def test_a_text_comes_back(alphabet: Bytes | Characters) -> None:
    tokens = alphabet.encode(TEXT)
    assert tokens.dtype == torch.int64 and 0 <= tokens.min() and tokens.max() < alphabet.size
    assert decoded(alphabet, tokens.tolist()) == TEXT
    assert decoded(alphabet, [*alphabet.encode("Zu").tolist(), HIDDEN]) == "Zu\u2592"


def test_a_broken_sequence_of_bytes_is_shown_as_such() -> None:
    decode = Bytes().decoder()
    assert [decode(byte) for byte in "\u00e4".encode()] == ["", "\u00e4"]
    assert decode(0xC3) + decode(0x41) == "\ufffdA"


def test_signs_that_steer_a_terminal_are_not_passed_on() -> None:
    assert harmless("a\x1b[2J\tb\n\x00") == "a\ufffd[2J\tb\n\ufffd"


def test_what_an_alphabet_lacks_is_named() -> None:
    with pytest.raises(UserError, match="the character 'q' does not occur"):
        Characters("abc").encode("abq")
    with pytest.raises(UserError, match="not UTF-8"):
        Bytes().encode("\udcff")


# ---- data ------------------------------------------------------------------------------------------------------------


def test_windows_hold_the_next_token_and_depend_on_the_place_only() -> None:
    splits = SOURCES["text"]().open(SHAPE)
    batch = splits.train.take([0, 7], (3, 1))
    assert batch.inputs.shape == batch.labels.shape == (2, 16) and len(batch) == 2
    assert torch.equal(batch.inputs[:, 1:], batch.labels[:, :-1])
    assert torch.equal(splits.train.take([7], (3, 1)).inputs[0], batch.inputs[1])
    varied = [splits.train.take([7], draw).inputs for draw in ((3, 1), (3, 2), (4, 1))]
    assert not torch.equal(varied[0], varied[1]) and not torch.equal(varied[0], varied[2])


def test_unvaried_windows_are_the_text() -> None:
    windows = Windows(torch.arange(50), 7)
    assert len(windows) == 7
    read = torch.cat([batch.inputs.flatten() for batch in in_order(windows, 3)])
    assert torch.equal(read, torch.arange(49))


def test_varied_windows_stay_inside_and_reach_everything() -> None:
    windows = Windows(torch.arange(50), 7)
    seen = torch.cat([windows.take(range(7), (0, epoch)).labels.flatten() for epoch in range(200)])
    assert set(seen.tolist()) == set(range(1, 50))


def test_no_held_out_paragraph_occurs_in_training() -> None:
    train_text, held_out = map(joined, SOURCES["text"]().documents())
    assert 0.05 < len(held_out) / (len(train_text) + len(held_out)) < 0.3
    known = {" ".join(paragraph.split()) for paragraph in train_text.split("\n\n")}
    paragraphs = [" ".join(paragraph.split()) for paragraph in held_out.split("\n\n")]
    assert len(paragraphs) > 50 and not known & set(paragraphs) - {""}
    assert tuple(map(joined, SOURCES["text"]().documents())) == (train_text, held_out)


def test_the_topics_quote_each_other() -> None:
    """Why paragraphs are compared: whole topics set aside would be known from others."""
    topics = documentation()
    aside = {n for n in range(len(topics)) if int((n + 1) * 0.15) > int(n * 0.15)}
    rest = {" ".join(p.split()) for n, t in enumerate(topics) if n not in aside for p in t.split("\n\n")}
    quoted = [p for n in aside for p in topics[n].split("\n\n") if len(p) > 80 and " ".join(p.split()) in rest]
    assert len(quoted) > 10


def test_paragraphs_are_kept_once_and_those_held_out_first() -> None:
    topics = ["one\n\ntwo", "  two\n\nthree\n\nthree", "four\n\none"]
    train_topics, held_out = parted(topics, 0.5)
    assert (joined(train_topics), held_out) == ("one\n\n\nfour\n", ["  two\n\nthree"])


def test_a_file_is_read_character_by_character(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    source = SOURCES["text"](file=file, tokens="characters", held_out=0.25)
    kinds = len(set(TEXT))
    splits = source.open(TextShape(8, kinds))
    start = decoded(source.alphabet(), splits.held_out.take([0], None).inputs[0].tolist())
    assert TEXT[round(len(TEXT) * 0.75) :].startswith(start)
    with pytest.raises(UserError, match=rf"has {kinds} characters, .* vocabulary is 256: sizes.vocabulary={kinds}"):
        source.open(TextShape(8, 256))
    with pytest.raises(UserError, match="the held-out text has 140 characters, a window takes 200"):
        source.open(TextShape(200, kinds))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xe4")
    with pytest.raises(UserError, match="latin.txt: cannot be read as a text: it is not UTF-8"):
        SOURCES["text"](file=tmp_path / "latin.txt").open(SHAPE)
    with pytest.raises(UserError, match="No such file or directory"):
        SOURCES["text"](file=tmp_path / "absent.txt").open(SHAPE)


def test_data_and_networks_of_different_kinds() -> None:
    with pytest.raises(UserError, match="data text gives text, the network reads images: 1 x 8 x 8"):
        SOURCES["text"]().splits(Shape(1, 8, 8))
    for name in ("digits", "photographs"):
        with pytest.raises(UserError, match=f"data {name} gives images, the network reads text: 16 tokens"):
            SOURCES[name]().splits(SHAPE)
    with pytest.raises(UserError, match="data digits holds no text"):
        SOURCES["digits"]().alphabet()


# ---- tasks -----------------------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """A "language model" that gives the same logits everywhere."""

    task, causal, vocabulary, token_count, input = "language", True, 5, 4, "text"

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, text: Tensor) -> Tensor:
        return self.logits.expand(*text.shape, -1)


TOKENS = torch.tensor([[0, 0, 1, 2, 0], [3, 0, 0, 0, 1]])
BATCH = Batch(TOKENS[:, :-1], TOKENS[:, 1:])


def test_the_unigram_model_scores_as_the_unigram_reference() -> None:
    counts = torch.tensor([5, 1, 1, 1, 0]) + 1.0  # of the inputs, and one more each
    task, network = TASKS["language"](), Constant((counts / counts.sum()).log().tolist())
    reference = task.reference(network, [BATCH])
    assert torch.allclose(reference.exp(), counts / counts.sum())
    scores = task.scores(network, BATCH, None, reference)
    assert torch.allclose(scores["loss"], scores["unigram_loss"])
    assert torch.equal(scores["accuracy"], torch.tensor([0.5, 0.75]))
    assert torch.equal(scores["unigram_accuracy"], scores["accuracy"])
    by_hand = -torch.stack([reference[row].mean() for row in BATCH.labels])
    assert torch.allclose(scores["unigram_loss"], by_hand)
    assert math.isclose(task.summary({"loss": 2.0})["perplexity"], math.exp(2.0))
    assert torch.allclose(task.loss(network, network, BATCH, None), scores["loss"].mean())


def test_masked_scores_count_removed_tokens_only() -> None:
    torch.manual_seed(0)
    network = crate_dsl.load(SPECS / "crate_bert.crate", length=8, vocabulary=11, d=8, K=2, L=1)
    task, text = TASKS["masked_language"](), torch.randint(11, (3, 8))
    draw = task.draw(network, 3, seeds.torch_generator(0))
    logits, mask = network(text, draw)
    reference = torch.linspace(1, 2, 11).log_softmax(0)
    scores = task.scores(network, Batch(text), draw, reference)
    for row in range(3):
        removed = mask[row] == 1
        assert removed.sum() == 2  # 8 - int(8 * 0.85)
        wanted, given = text[row, removed], logits[row, removed]
        assert torch.allclose(scores["masked_loss"][row], F.cross_entropy(given, wanted))
        assert torch.isclose(scores["masked_accuracy"][row], (given.argmax(-1) == wanted).float().mean())
        assert torch.allclose(scores["unigram_loss"][row], -reference[wanted].mean())
        assert torch.isclose(scores["unigram_accuracy"][row], (wanted == 10).float().mean())
    assert torch.allclose(task.loss(network, network, Batch(text), draw), scores["masked_loss"].mean())
    columns = list(task.panels(network, Batch(text), draw).values())
    assert torch.equal(columns[1] == HIDDEN, mask == 1)
    assert torch.equal(columns[2][mask == 0], text[mask == 0])


def test_a_network_that_sees_what_it_predicts_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "open.crate"
    text = (SPECS / "crate_gpt.crate").read_text()
    spec.write_text("\n".join(line for line in text.splitlines() if not line.strip().startswith("causal")))
    with pytest.raises(UserError, match='would see what it predicts; write "causal"'):
        train.main([str(spec), "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_training_beats_the_unigram(tiny_run: Train) -> None:
    words = ["sizes.d=32", "sizes.length=32", "optimizer.lr=1e-2", "schedule.warmup=0", "evaluate_every=500"]
    run = tiny_run("crate_gpt", *words, steps=150)
    recipe, compiled = recipe_in(RunFolder(run)), network_of(run).compiled
    splits = recipe.data.splits(compiled.shape)
    reference = reference_of(recipe.task, compiled.module, splits.train, 256)
    unigram = measure(recipe.task, compiled.module, splits.held_out, 256, "float32", reference)["unigram_loss"]
    losses = [entry["loss"] for entry in read_metrics(run / "metrics.jsonl") if entry["split"] == "held_out"]
    assert losses[-1] < unigram - 0.2


def test_a_masked_run_shows_its_predictions(tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run("crate_bert")
    out = capsys.readouterr().out
    assert "unigram_accuracy" in out and re.search(r"held_out split, \d+ windows", out)
    shown = (run / "pictures" / "held_out.txt").read_text(encoding="utf-8")
    blocks = shown.strip("\n").split("\n\n")
    assert len(blocks) == 8 and blocks[0] in out and f"text: {run / 'pictures' / 'held_out.txt'}" in out
    text, removed, predicted = (line.partition(" | ")[2] for line in blocks[0].split("\n"))
    assert removed.count("\u2592") == 64 - int(64 * 0.85)
    assert all(a == b for a, b in zip(text, removed, strict=True) if b != "\u2592")
    assert all(a == b for a, b, c in zip(text, predicted, removed, strict=True) if c != "\u2592")


def sampled(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    sample.main([str(run), "--tokens", "40", *words])
    captured = capsys.readouterr()
    assert str(run) in captured.err, "it says which run"
    return captured.out


def test_sampling_is_a_function_of_the_seed(tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run("crate_gpt", "sizes.length=16")
    first = sampled(run, capsys, "--seed", "1", "--prompt", "The ")
    assert first.startswith("The ") and first == sampled(run, capsys, "--seed", "1", "--prompt", "The ")
    assert first != sampled(run, capsys, "--seed", "2", "--prompt", "The ")
    greedy = sampled(run, capsys, "--temperature", "0", "--seed", "1")
    assert greedy == sampled(run, capsys, "--top-k", "1", "--seed", "2", "--weights", "best")


def test_sampling_sees_the_last_tokens_only() -> None:
    torch.manual_seed(0)
    network = crate_dsl.load(SPECS / "crate_gpt.crate", length=8, vocabulary=11, d=8, K=2, L=1)
    long = torch.randint(11, (20,))
    drawn = [
        list(sample.continuation(network, prompt, 12, 1.0, 5, torch.Generator().manual_seed(3)))
        for prompt in (long, long[-8:])
    ]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 12 and len(set(drawn[0])) > 1


@pytest.mark.parametrize("spec", ["crate_gpt", "crate_gpt_exact"])
def test_a_memory_changes_nothing(spec: str) -> None:
    """Token by token and all anew, beyond the length of the network too."""
    torch.manual_seed(0)
    network = crate_dsl.load(SPECS / f"{spec}.crate", length=8, vocabulary=11, d=8, K=2, L=2).double()
    text, reader = torch.randint(11, (12,)), sample.Reader(network)
    with torch.no_grad():
        for read, length in ((0, 3), (3, 4), (4, 8), (8, 9), (9, 12)):
            wanted = network(text[None, max(0, length - 8) : length])[0, -1]
            torch.testing.assert_close(reader(text[read:length]), wanted, rtol=1e-10, atol=1e-10)


def test_the_lowest_temperature_takes_the_most_probable() -> None:
    logits, generator = torch.tensor([0.0, 1.0, -2.0]), torch.Generator().manual_seed(0)
    assert [int(sample.drawn(logits, 1e-46, None, generator)) for _ in range(20)] == [1] * 20


def test_drawing_follows_the_probabilities() -> None:
    logits, generator = torch.tensor([0.0, 1.0, -2.0, 0.5]), torch.Generator().manual_seed(0)
    drawn = torch.cat([sample.drawn(logits, 0.5, 3, generator) for _ in range(4000)])
    wanted = torch.tensor([0.0, 1.0, -math.inf, 0.5]).div(0.5).softmax(0)
    assert torch.allclose(torch.bincount(drawn, minlength=4) / 4000, wanted, atol=0.03)


def test_a_prompt_of_other_characters_is_refused_by_its_option() -> None:
    assert sample.prompt_of("abba", Characters("ab")).tolist() == [0, 1, 1, 0]
    with pytest.raises(UserError, match="^--prompt: the character 'q' does not occur"):
        sample.prompt_of("abq", Characters("ab"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens", "0"], "--tokens is 0 and must be at least 1"),
        (["--temperature", "-1"], "--temperature is -1"),
        (["--temperature", "nan"], "--temperature is nan"),
        (["--top-k", "0"], "--top-k is 0"),
        (["--prompt", ""], "nothing to continue"),
        (["--prompt", "\udcff"], "--prompt: .* not UTF-8"),
        (["--top-k", "x"], "invalid int value"),
    ],
)
def test_wrong_wishes(words: list[str], message: str, tiny_run: Train) -> None:
    run = tiny_run("crate_gpt", "sizes.length=16", steps=1)
    with pytest.raises(UserError, match=message):
        sample.main([str(run), *words])


def test_only_language_models_write(tiny_run: Train, tmp_path: Path) -> None:
    for spec, kind in (("crate", "classify"), ("crate_bert", "masked_language")):
        run = tiny_run(spec, name=spec, steps=1)
        with pytest.raises(UserError, match=f'{spec}: its network is of the kind "{kind}"; only a causal'):
            sample.main([str(run)])
    with pytest.raises(UserError, match="not the folder of a run"):
        sample.main([str(tmp_path / "nowhere")])


def test_comparing_language_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(SPECS / "crate_gpt.crate")
    words = ["steps=2", "sizes.L=1", "sizes.d=8", "sizes.K=2", "--out", str(tmp_path)]
    compare.main([spec, *words])
    assert "unigram_loss" in capsys.readouterr().out
    with pytest.raises(UserError, match="--vit compares classifiers only"):
        compare.main([spec, "--vit", *words])


def test_compared_networks_read_windows_of_their_own_length(tmp_path: Path) -> None:
    spec, longer = SPECS / "crate_gpt.crate", tmp_path / "longer.crate"
    longer.write_text(spec.read_text(encoding="utf-8").replace("text  { length = 128", "text  { length = 160"))
    words = ["steps=1", "sizes.L=1", "sizes.d=8", "sizes.K=2", "--out", str(tmp_path)]
    compare.main([str(spec), str(longer), *words])
    trained, folder = network_of(tmp_path / "longer"), RunFolder(tmp_path / "longer")
    assert trained.compiled.shape == TextShape(160, 256)
    recipe, network = recipe_in(folder), trained.compiled.module
    splits = recipe.splits(trained.compiled.shape)
    reference = reference_of(recipe.task, network, splits.train, recipe.evaluate_batch)
    figures = measure(recipe.task, network, splits.held_out, recipe.evaluate_batch, recipe.precision, reference)
    assert side_by_side.read(folder.path / "outcome.json").figures == pytest.approx(figures, abs=1e-6)


def test_the_seed_decides_the_batches() -> None:
    windows = Windows(torch.arange(1000), 9)
    one, two, other = (Batches(windows, 8, 1, seed)[3] for seed in (0, 0, 1))
    assert torch.equal(one.inputs, two.inputs) and not torch.equal(one.inputs, other.inputs)
