import random
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from el_fairseq.analysis import noise
from el_fairseq.analysis.models import load_models, load_subset
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
    (model,) = load_models({"CE": [str(tiny.ce)]}, tiny.bin, max_tokens=300)
    return model, load_subset(model.task, tiny.bin, "test"), Subwords(tiny.subwords)


def test_noisy_sources_keep_their_targets_and_depend_on_the_sentence_alone(loaded):
    model, dataset, subwords = loaded
    noisy, alone, clean = (
        noise.noisy_dataset(model.task, dataset, indices, subwords, rate)
        for indices, rate in (([3, 5, 7], 0.3), ([5], 0.3), ([5], 0))
    )
    assert torch.equal(noisy.src[1], alone.src[0])
    assert not torch.equal(noisy.src[1], dataset.src[5])
    assert torch.equal(noisy.tgt[1], dataset.tgt[5])
    assert torch.equal(clean.src[0], dataset.src[5])
    assert noisy.left_pad_source == dataset.left_pad_source


def test_a_subword_model_that_did_not_make_the_data_is_refused(loaded, tmp_path):
    model, dataset, subwords = loaded
    noise.check_subwords(model.task, dataset, range(43), subwords)
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\nh a\nu s</w>\n")
    with pytest.raises(UserError, match="segments 43 of 43 clean sentences in another"):
        noise.check_subwords(model.task, dataset, range(43), Subwords(codes))


def test_noise_curves_begin_at_what_the_clean_data_gives(loaded, monkeypatch):
    model, dataset, subwords = loaded
    monkeypatch.setattr(noise, "RATES", (0.0, 0.3))
    arguments = model, dataset, range(43), subwords, 1, 50
    curve = noise.curve(*arguments)
    columns = model.token_columns(dataset, "tokens")
    assert curve["accuracy"][0]["value"] == pytest.approx(columns["correct"].mean())
    assert curve["sentences"] == [43, 43]
    assert all(bleu["low"] < bleu["value"] < bleu["high"] for bleu in curve["bleu"])
    assert "tok:13a" in curve["signature"]
    assert noise.curve(*arguments) == curve


def test_intervals_of_accuracy_are_those_of_drawing_sentences():
    draw = np.random.default_rng(3)
    tokens = draw.integers(5, 15, 400)
    counts = np.stack([draw.binomial(tokens, 0.7), tokens], axis=1)
    accuracy = noise.accuracy_of(counts, 2000)
    assert accuracy["value"] == counts[:, 0].sum() / tokens.sum()
    # Sentences of independent tokens: the standard error is the binomial one.
    width = accuracy["high"] - accuracy["low"]
    assert width == pytest.approx(2 * 1.96 * (0.7 * 0.3 / tokens.sum()) ** 0.5, rel=0.15)
