"""How a model stands noise: in the characters of the source, and in its embeddings."""

import random
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from ..common.cli import UserError
from ..corpora.languages import sacrebleu_tokenizer
from ..corpora.moses import characters
from ..corpora.subwords import text_of
from .models import pairs

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
    return " ".join(word for word in words if word)


def _noisy_word(word, rate, generator):
    left, result = characters(word), []
    for i, character in enumerate(left):
        if generator.random() >= rate:
            result.append(character)
            continue
        kind = generator.choice(("drop", "double", "swap"))
        if kind == "double":
            result += [character, character]
        elif kind == "swap" and i + 1 < len(left):
            result.append(left[i + 1])
            left[i + 1] = character
        elif kind == "swap":
            result.append(character)
    return "".join(result)


def noisy_dataset(task, dataset, indices, subwords, rate, seed):
    """Sentences of a translation dataset with noise of ``rate`` in their sources.

    The sources are turned into text, disturbed, and cut into subwords anew; at rate 0 they are
    the dataset's own. A sentence's noise depends on ``seed`` and its number alone.
    """
    dictionary = task.source_dictionary
    sources = [dataset.src[i] for i in indices]
    if rate:
        sources = [
            _encoded(
                with_noise(
                    text_of(source, dictionary, subwords.symbol), rate, random.Random(f"{seed} {i}")
                ),
                dictionary,
                subwords,
            )
            for i, source in zip(indices, sources)
        ]
    return pairs(task, sources, [dataset.tgt[i] for i in indices], dataset)


def _encoded(text, dictionary, subwords):
    return dictionary.encode_line(subwords.pieces(text), add_if_not_exist=False).long()


def check_subwords(task, dataset, indices, subwords):
    """Raise :class:`UserError` where the subword model is not the one of the data."""
    dictionary = task.source_dictionary
    otherwise = 0
    for i in indices:
        source = dataset.src[i]
        again = _encoded(text_of(source, dictionary, subwords.symbol), dictionary, subwords)
        otherwise += not torch.equal(source.long(), again)
    if otherwise > MOST_SENTENCES_CUT_OTHERWISE * len(indices):
        raise UserError(
            f"the subword model cuts {otherwise} of {len(indices)} clean sentences otherwise than "
            "the data has them; give --subwords the model that the data was made with"
        )


def bleu_of(hypotheses, references, language, replicates):
    """Corpus BLEU of lists of sentences, with the 95 % interval of sacreBLEU's bootstrap.

    Returns:
        ``(score, low, high, signature)``.
    """
    tokenize = sacrebleu_tokenizer(language)
    metrics = {"BLEU": BLEU(references=[references], tokenize=tokenize)}
    signatures, results = PairedTest([("", hypotheses)], metrics, None, "bs", replicates)()
    (found,) = results["BLEU"]
    low, high = max(found.score - found.ci, 0), found.score + found.ci
    return found.score, low, high, str(signatures["BLEU"])


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

    Yields ``(strength, logits)``. Strength 0 is the unperturbed model.
    """
    signs = _gradient_signs(model, sample, padding)
    for strength in strengths:
        shifts = {layer: strength * layer.weight.std() * sign for layer, sign in signs.items()}
        with ExitStack() as hooks, torch.no_grad():
            for network in model.networks:
                hooks.enter_context(_shifted_embeddings(network, shifts))
            yield strength, model.logits(sample)


def _gradient_signs(model, sample, padding):
    """For each network's embedding layer, the sign of the loss's gradient in what it gave."""
    embeddings = {network.encoder.embed_tokens: None for network in model.networks}
    with ExitStack() as hooks, torch.enable_grad():
        seen = [
            hooks.enter_context(_shifted_embeddings(network, dict.fromkeys(embeddings, 0)))
            for network in model.networks
        ]
        loss = F.cross_entropy(
            model.logits(sample).flatten(0, 1).float(),
            model.target(sample).flatten(),
            ignore_index=padding,
        )
        gradients = torch.autograd.grad(loss, [outputs[0] for outputs in seen])
    return {layer: gradient.sign() for layer, gradient in zip(embeddings, gradients)}


@contextmanager
def _shifted_embeddings(network, shifts):
    """While in here, the source embeddings are shifted; gives the list of what they then were."""
    layer, encoder, seen = network.encoder.embed_tokens, network.encoder, []
    inside = []

    def shift(_layer, _inputs, output):
        # A decoder may share the layer; its embeddings are left alone.
        if inside:
            output = output + shifts[layer]
            seen.append(output)
            return output
        return None

    handles = [
        encoder.register_forward_pre_hook(lambda *_: inside.append(True)),
        encoder.register_forward_hook(lambda *_: inside.clear()),
        layer.register_forward_hook(shift),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
