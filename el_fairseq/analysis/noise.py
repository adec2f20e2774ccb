"""Accuracy and BLEU with noise in the characters of the source."""

import argparse
import random

import numpy as np
import torch
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from ..common.cli import UserError
from ..corpora.languages import sacrebleu_tokenizer
from ..corpora.moses import characters
from ..corpora.subwords import text_of
from .models import options_of, translation_dataset

RATES = (0.0, 0.1, 0.2, 0.3)
SEED = 1
# If the subword model segments a larger share of the clean sentences in another way than the data,
# it is not the model of the data.
MOST_SENTENCES_CUT_OTHERWISE = 0.1


def with_noise(text, rate, generator):
    """Text in which characters were dropped, doubled, or swapped with the next one.

    Each character is changed with probability ``rate``; the three changes are equally likely. An
    escape of the Moses tokenizer, such as ``&apos;``, is one character. Spaces stay. A word
    disappears only if all its characters are dropped. ``generator`` is a ``random.Random``.
    """
    words = []
    for left in map(characters, text.split(" ")):
        word = ""
        for i, character in enumerate(left):
            times = 1
            if generator.random() < rate:
                times = generator.choice((0, 2, 1))  # dropped, doubled, swapped
                if times == 1 and i + 1 < len(left):
                    left[i : i + 2] = left[i + 1], character
            word += times * left[i]
        words.append(word)
    return " ".join(filter(None, words))


def noisy_dataset(task, dataset, indices, subwords, rate):
    """Sentences of a translation dataset with noise of ``rate`` in their sources.

    Sources become text and, with noise, subwords again; at rate 0 they are those of the dataset.
    The noise of a sentence depends only on its index.
    """
    sources = [dataset.src[i] for i in indices]
    for number, i in enumerate(indices if rate else ()):
        draw = random.Random(f"{SEED} {i}")
        sources[number] = _resegmented(task, sources[number], subwords, rate, draw)
    return translation_dataset(task, sources, [dataset.tgt[i] for i in indices], dataset)


def _resegmented(task, source, subwords, *how):
    """A source turned into text, and into subwords again, with noise if ``how`` says so."""
    dictionary = task.source_dictionary
    text = text_of(source, dictionary, subwords.symbol)
    pieces = subwords.pieces(with_noise(text, *how) if how else text)
    return dictionary.encode_line(pieces, add_if_not_exist=False).long()


def check_subwords(task, dataset, indices, subwords):
    """Raise :class:`UserError` if the subword model is not the one of the data."""
    sources = [dataset.src[i] for i in indices]
    same = [torch.equal(source.long(), _resegmented(task, source, subwords)) for source in sources]
    otherwise = same.count(False)
    if otherwise > MOST_SENTENCES_CUT_OTHERWISE * len(indices):
        raise UserError(
            f"the subword model segments {otherwise} of {len(indices)} clean sentences in another "
            "way than the data; give --subwords the model that the data was made with"
        )


def curve(model, dataset, indices, subwords, beam, replicates):
    """Accuracy and BLEU of a model at each rate of noise, with 95 % intervals over sentences.

    BLEU is computed on the words of the corpus: subwords are joined, Moses tokens stay. Its
    interval is that of sacreBLEU's bootstrap.
    """
    task, dictionary = model.task, model.task.target_dictionary
    tokenize = sacrebleu_tokenizer(options_of(task).target_lang)
    options = argparse.Namespace(beam=beam, max_len_a=1.2, max_len_b=10)
    generator = task.build_generator(model.networks, options)
    made = {"rates": RATES, "sentences": [], "accuracy": [], "bleu": []}
    for rate in RATES:
        noisy = noisy_dataset(task, dataset, indices, subwords, rate)
        counts, texts = [], []
        for sample in model.batches(noisy, f"noise {rate:.0%}"):
            target = model.target(sample)
            kept = target != model.padding
            correct = (model.logits(sample).argmax(-1) == target) & kept
            counts.append(torch.stack([correct.sum(1), kept.sum(1)], dim=1).cpu())
            hypotheses = generator.generate(model.networks, sample)
            for (best, *_), i in zip(hypotheses, sample["id"]):
                pair = best["tokens"], noisy.tgt[i]
                texts.append([text_of(tokens, dictionary, subwords.symbol) for tokens in pair])
        made["sentences"].append(len(texts))
        made["accuracy"].append(accuracy_of(torch.cat(counts).numpy(), replicates))
        hypotheses, references = zip(*texts)
        metrics = {"BLEU": BLEU(references=[references], tokenize=tokenize)}
        signatures, results = PairedTest([("", hypotheses)], metrics, None, "bs", replicates)()
        (bleu,) = results["BLEU"]
        low, high = max(bleu.score - bleu.ci, 0), bleu.score + bleu.ci
        made["bleu"].append({"value": bleu.score, "low": low, "high": high})
    return {**made, "signature": str(signatures["BLEU"])}


def accuracy_of(counts, replicates):
    """Accuracy of sentences, with a 95 % interval by drawing them.

    ``counts`` (S, 2) holds the numbers of a sentence's correct tokens, and of all its tokens.
    """
    drawn = np.random.default_rng(SEED).integers(len(counts), size=(replicates, len(counts)))
    correct, tokens = counts[drawn].sum(1).T
    low, high = np.quantile(correct / tokens, (0.025, 0.975))
    return {"value": counts[:, 0].sum() / counts[:, 1].sum(), "low": low, "high": high}
