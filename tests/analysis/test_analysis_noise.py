import random
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from el_fairseq.analysis import noise
from el_fairseq.analysis.models import load_models, load_subset
from el_fairseq.analysis.runner import Runner
from el_fairseq.common.cli import UserError
from el_fairseq.corpora.subwords import Subwords


@given(st.text(), st.floats(0, 1), st.integers())
def test_noise_makes_no_character_that_was_not_there(text, rate, seed):
    noisy = noise.with_noise(text, rate, random.Random(seed))
    assert set(noisy) <= set(text)
    assert len(noisy) <= 2 * len(text)


@given(st.integers())
def test_an_escape_of_the_moses_tokenizer_is_one_character(seed):
    noisy = noise.with_noise("don &apos;t &amp; &lt;b&gt;", 0.9, random.Random(seed))
    assert re.fullmatch(r"(&(apos|amp|lt|gt);|[a-z ])*", noisy)


def test_each_kind_of_noise_happens_as_often_as_asked():
    text = " ".join(["abcdefghij"] * 2000)
    draw = random.Random(1)
    words = noise.with_noise(text, 0.1, draw).split(" ")
    doubled = sum(word.count(c * 2) for word in words for c in "abcdefghij")
    dropped = sum(c not in word for word in words for c in "abcdefghij")
    swapped = sum(word.count(b + a) for word in words for a, b in zip("abcdefghij", "bcdefghij"))
    expected = 0.1 * 20000 / 3
    assert doubled == pytest.approx(expected, rel=0.15)
    assert dropped == pytest.approx(expected, rel=0.15)
    # The last character of a word has none to swap with; a chain of swaps hides some.
    assert swapped == pytest.approx(0.9 * expected, rel=0.15)


@pytest.fixture(scope="module")
def loaded(tiny):
    task, models = load_models({"CE": [str(tiny.ce)], "EL": [str(tiny.el)]}, tiny.bin)
    return task, models, load_subset(task, tiny.bin, "test")


def test_noisy_sources_keep_their_targets_and_depend_on_the_sentence_alone(tiny, loaded):
    task, _, dataset = loaded
    subwords = Subwords(tiny.subwords)
    noisy = noise.noisy_dataset(task, dataset, [3, 5, 7], subwords, 0.3, seed=1)
    alone = noise.noisy_dataset(task, dataset, [5], subwords, 0.3, seed=1)
    clean = noise.noisy_dataset(task, dataset, [5], subwords, 0, seed=1)
    assert torch.equal(noisy.src[1], alone.src[0])
    assert not torch.equal(noisy.src[1], dataset.src[5])
    assert torch.equal(noisy.tgt[1], dataset.tgt[5])
    assert torch.equal(clean.src[0], dataset.src[5])
    assert noisy.left_pad_source == dataset.left_pad_source


def test_a_subword_model_that_did_not_make_the_data_is_refused(tiny, loaded, tmp_path):
    task, _, dataset = loaded
    noise.check_subwords(task, dataset, range(43), Subwords(tiny.subwords))
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\nh a\nu s</w>\n")
    with pytest.raises(UserError, match="cuts 43 of 43 clean sentences otherwise"):
        noise.check_subwords(task, dataset, range(43), Subwords(codes))


@pytest.mark.parametrize("which", [0, 1])
def test_the_attack_adds_the_sign_of_the_gradient_to_the_source_embeddings_alone(loaded, which):
    """Also where the decoder shares the encoder's embeddings, as the first model does."""
    task, models, dataset = loaded
    model, padding = models[which], task.target_dictionary.pad()
    network = model.networks[0]
    sample = dataset.collater([dataset[i] for i in (0, 1, 2)])
    layer = network.encoder.embed_tokens
    assert (layer is network.decoder.embed_tokens) == (which == 0)
    tokens = sample["net_input"]["src_tokens"]

    def forward(embeddings):
        encoded = network.encoder(tokens, token_embeddings=embeddings)
        return network.decoder(sample["net_input"]["prev_output_tokens"], encoded)[0]

    embeddings = layer(tokens).detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        forward(embeddings).flatten(0, 1), sample["target"].flatten(), ignore_index=padding
    )
    loss.backward()
    moved = embeddings + 0.3 * layer.weight.std() * embeddings.grad.sign()
    expected = forward(moved).detach()
    clean, attacked = noise.attacked_logits(model, sample, padding, [0.0, 0.3])
    plain = model.logits(sample).detach()
    torch.testing.assert_close(clean, plain)
    torch.testing.assert_close(attacked, expected)
    assert not torch.allclose(attacked, plain)
    assert network.encoder.embed_tokens is layer


def test_a_step_against_the_gradient_hurts_and_clean_accuracy_is_that_of_the_tokens(loaded):
    task, models, dataset = loaded
    runner = Runner(task, models, 4096, beam=1, device="cpu")
    everything = range(len(dataset))
    strengths = [0.0, 0.5, 1.0]
    found = noise.embedding_curve(runner, models[0], dataset, everything, strengths, 1, 50)
    curve = found["accuracy"]
    columns = runner.token_columns(models[0], dataset, "tokens")
    assert curve["value"][0] == pytest.approx(columns["correct"].mean())
    assert curve["value"][2] < curve["value"][0]
    for low, value, high in zip(curve["low"], curve["value"], curve["high"]):
        assert low < value < high


def test_noise_curves_begin_at_what_the_clean_data_gives(tiny, loaded):
    task, models, dataset = loaded
    runner = Runner(task, models, 300, beam=1, device="cpu")
    subwords = Subwords(tiny.subwords)
    arguments = runner, models[0], dataset, range(43), subwords, [0.0, 0.3], 1, 50
    curve = noise.character_curve(*arguments)
    columns = runner.token_columns(models[0], dataset, "tokens")
    assert curve["accuracy"]["value"][0] == pytest.approx(columns["correct"].mean())
    assert curve["sentences"] == [43, 43]
    for low, value, high in zip(*(curve["bleu"][key] for key in ("low", "value", "high"))):
        assert low < value < high
    assert "tok:13a" in curve["signature"]
    assert noise.character_curve(*arguments) == curve


def test_intervals_of_accuracy_are_those_of_drawing_sentences():
    draw = np.random.default_rng(3)
    tokens = draw.integers(5, 15, 400)
    counts = np.stack([draw.binomial(tokens, 0.7), tokens], axis=1)
    value, low, high = noise.accuracy_of(counts, 2000, seed=1)
    assert value == counts[:, 0].sum() / tokens.sum()
    # Sentences of independent tokens: the standard error is the binomial one.
    assert high - low == pytest.approx(2 * 1.96 * (0.7 * 0.3 / tokens.sum()) ** 0.5, rel=0.15)
