"""Accuracy and BLEU under noise: in the characters of the source, and in its embeddings."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from ..common.cli import UserError
from ..corpora.languages import sacrebleu_tokenizer
from ..corpora.moses import characters
from ..corpora.subwords import text_of
from .models import options_of, translation_dataset

RATES = (0.0, 0.1, 0.2, 0.3)
STRENGTHS = (0.0, 0.1, 0.2, 0.4, 0.8)

# A subword model that cuts more of the clean sentences otherwise than the data has them is
# not the one that the data was made with.
MOST_SENTENCES_CUT_OTHERWISE = 0.1


def with_noise(text, rate, generator):
    """Text in which characters were dropped, doubled, or swapped with the next one.

    Each character is changed with probability ``rate``, and what happens to it is drawn evenly. An
    escape of the Moses tokenizer, such as ``&apos;``, is one character. Spaces stay: words keep
    their number unless all their characters are dropped.

    Args:
        text: a sentence.
        rate: in [0, 1].
        generator: a ``random.Random``.
    """
    words = [_noisy_word(word, rate, generator) for word in text.split(" ")]
    return " ".join(filter(None, words))


def _noisy_word(word, rate, generator):
    left, result = characters(word), []
    for i, character in enumerate(left):
        if generator.random() >= rate:
            result.append(character)
            continue
        kind = generator.choice(("drop", "double", "swap"))
        if kind == "swap" and i + 1 < len(left):
            left[i : i + 2] = left[i + 1], character
        result += [left[i]] * {"drop": 0, "double": 2, "swap": 1}[kind]
    return "".join(result)


def noisy_dataset(task, dataset, indices, subwords, rate, seed):
    """Sentences of a translation dataset with noise of ``rate`` in their sources.

    The sources are turned into text, disturbed, and cut into subwords anew; at rate 0 they are
    the dataset's own. A sentence's noise depends on ``seed`` and its number alone.
    """
    dictionary = task.source_dictionary

    def disturbed(i):
        text = text_of(dataset.src[i], dictionary, subwords.symbol)
        return _encoded(with_noise(text, rate, random.Random(f"{seed} {i}")), dictionary, subwords)

    sources = [disturbed(i) if rate else dataset.src[i] for i in indices]
    return translation_dataset(task, sources, [dataset.tgt[i] for i in indices], dataset)


def _encoded(text, dictionary, subwords):
    return dictionary.encode_line(subwords.pieces(text), add_if_not_exist=False).long()


def check_subwords(task, dataset, indices, subwords):
    """Raise :class:`UserError` where the subword model is not the one of the data."""
    dictionary, otherwise = task.source_dictionary, 0
    for source in (dataset.src[i] for i in indices):
        again = _encoded(text_of(source, dictionary, subwords.symbol), dictionary, subwords)
        otherwise += not torch.equal(source.long(), again)
    if otherwise > MOST_SENTENCES_CUT_OTHERWISE * len(indices):
        raise UserError(
            f"the subword model cuts {otherwise} of {len(indices)} clean sentences otherwise than "
            "the data has them; give --subwords the model that the data was made with"
        )


def curves(runner, models, dataset, chosen, subwords, arguments):
    """Accuracy and BLEU of each model under noise in the source, on the chosen sentences.

    Args:
        chosen: indices of sentences of ``dataset``.
        subwords: the data's, for noise in characters; ``None`` for none.
        arguments: of the command: ``seed``, ``beam``, ``bootstrap``.
    """
    result = {"sentences": len(chosen), "seed": arguments.seed, "beam": arguments.beam}
    bootstrap = arguments.seed, arguments.bootstrap
    if subwords:
        result["characters"] = {
            model.name: character_curve(runner, model, dataset, chosen, subwords, RATES, *bootstrap)
            for model in models
        }
    networks = [network for model in models for network in model.networks]
    if all(hasattr(getattr(network, "encoder", None), "embed_tokens") for network in networks):
        result["gradient_sign"] = {
            model.name: embedding_curve(runner, model, dataset, chosen, STRENGTHS, *bootstrap)
            for model in models
        }
    return result


def character_curve(runner, model, dataset, indices, subwords, rates, seed, replicates):
    """Accuracy and BLEU at each rate of character noise, with intervals over sentences.

    BLEU is of words as the corpus has them: subwords are joined, Moses tokens stay. Its interval is
    that of sacreBLEU's bootstrap.
    """
    dictionary, translate = runner.task.target_dictionary, runner.translator(model)
    tokenize = sacrebleu_tokenizer(options_of(runner.task).target_lang)
    accuracy, bleu, sentences = [], [], []
    for rate in rates:
        noisy = noisy_dataset(runner.task, dataset, indices, subwords, rate, seed)
        counts, texts = [], []
        with torch.no_grad():
            for sample in runner.batches(model, noisy, f"noise {rate:.0%}"):
                counts.append(count_correct(model, sample, model.logits(sample), runner.padding))
                both = zip(translate(sample), (noisy.tgt[i] for i in sample["id"]))
                texts += [
                    [text_of(tokens, dictionary, subwords.symbol) for tokens in pair]
                    for pair in both
                ]
        sentences.append(len(texts))
        accuracy.append(accuracy_of(np.concatenate(counts), replicates, seed))
        hypotheses, references = zip(*texts)
        metrics = {"BLEU": BLEU(references=[references], tokenize=tokenize)}
        test = PairedTest([("", hypotheses)], metrics, None, "bs", replicates)
        signatures, results = test()
        (one,) = results["BLEU"]
        bleu.append((one.score, max(one.score - one.ci, 0), one.score + one.ci))
    return {
        "rates": rates,
        "sentences": sentences,
        "accuracy": _curve(accuracy),
        "bleu": _curve(bleu),
        "signature": str(signatures["BLEU"]),
    }


def embedding_curve(runner, model, dataset, indices, strengths, seed, replicates):
    """Accuracy at each strength of the gradient-sign perturbation, with intervals."""
    counts = [[] for _ in strengths]
    for sample in runner.batches(model, dataset, "gradient sign", indices):
        attacked = attacked_logits(model, sample, runner.padding, strengths)
        for of_strength, logits in zip(counts, attacked):
            of_strength.append(count_correct(model, sample, logits, runner.padding))
    accuracy = [accuracy_of(np.concatenate(one), replicates, seed) for one in counts]
    return {"strengths": strengths, "accuracy": _curve(accuracy)}


def _curve(triples):
    return dict(zip(("value", "low", "high"), map(list, zip(*triples))))


def accuracy_of(counts, replicates, seed):
    """Accuracy from (S, 2) counts of :func:`count_correct`, with a 95 % bootstrap interval.

    Sentences are drawn. Returns ``(accuracy, low, high)``.
    """
    drawn = np.random.default_rng(seed).integers(len(counts), size=(replicates, len(counts)))
    correct, tokens = counts[drawn].sum(1).T
    low, high = np.quantile(correct / tokens, (0.025, 0.975))
    return counts[:, 0].sum() / counts[:, 1].sum(), low, high


def count_correct(model, sample, logits, padding):
    """For each sentence, how many target tokens the model ranks first, and how many there are.

    Returns an integer array (B, 2).
    """
    target = model.target(sample)
    kept = target != padding
    correct = (logits.argmax(-1) == target) & kept
    return torch.stack([correct.sum(1), kept.sum(1)], dim=1).cpu().numpy()


def attacked_logits(model, sample, padding, strengths):
    """Logits of a batch under a one-step perturbation of its source embeddings.

    The fast gradient sign method (Goodfellow et al., "Explaining and Harnessing Adversarial
    Examples", ICLR 2015) on what the encoder's embedding layer gives: each value moves by
    ``strength`` times the standard deviation of the embedding matrix, in the direction that
    raises the negative log-likelihood of the target.

    Yields logits for each strength. Strength 0 is the unperturbed model.
    """
    layers = [network.encoder.embed_tokens for network in model.networks]
    source, target = sample["net_input"]["src_tokens"], model.target(sample)
    shifts = [torch.zeros_like(layer(source)).requires_grad_() for layer in layers]
    with torch.enable_grad():
        logits = _shifted_logits(model, sample, shifts).flatten(0, 1).float()
        loss = F.cross_entropy(logits, target.flatten(), ignore_index=padding)
        signs = [gradient.sign() for gradient in torch.autograd.grad(loss, shifts)]
    for strength in strengths:
        with torch.no_grad():
            moved = [strength * layer.weight.std() * sign for layer, sign in zip(layers, signs)]
            logits = _shifted_logits(model, sample, moved)
        yield logits


class _Shifted(torch.nn.Module):
    """An embedding layer whose output is shifted."""

    def __init__(self, layer, shift):
        super().__init__()
        self.layer, self.shift = layer, shift

    def forward(self, tokens):
        return self.layer(tokens) + self.shift


def _shifted_logits(model, sample, shifts):
    """Logits with a shift of each network's source embeddings; a decoder that shares the layer
    keeps it as it is."""
    layers = [network.encoder.embed_tokens for network in model.networks]
    try:
        for network, layer, shift in zip(model.networks, layers, shifts):
            network.encoder.embed_tokens = _Shifted(layer, shift)
        return model.logits(sample)
    finally:
        for network, layer in zip(model.networks, layers):
            network.encoder.embed_tokens = layer
