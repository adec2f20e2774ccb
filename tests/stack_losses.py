"""The losses of the first fifty updates of small trainings, for ``scripts/stacks.sh`` to compare.

``python tests/stack_losses.py FOLDER``, an empty folder, prints them as JSON with the versions
of what is installed. Without fairseq, the plain loss alone is trained with.
"""

import importlib
import json
import platform
import random
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from el_fairseq import encouraging_loss

UPDATES = 50
MODEL = [
    *("--arch", "transformer", "--encoder-layers", "1", "--decoder-layers", "1"),
    *("--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
    *("--encoder-ffn-embed-dim", "16", "--decoder-ffn-embed-dim", "16"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2", "--dropout", "0"),
]


def versions():
    """What a stack is made of, by name; ``None`` for what is not there."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("numpy", "numba", "fairseq"):
        try:
            found[name] = importlib.import_module(name).__version__
        except Exception:  # stock fairseq fails with a ValueError where it does not fit
            found[name] = None
    return found


def plain_losses(function, **options):
    """Losses of a linear classifier whose data no library's random numbers decide."""
    draw = random.Random(1)
    features = torch.tensor([[draw.gauss(0, 1) for _ in range(8)] for _ in range(64)])
    labels = torch.tensor([draw.randrange(5) for _ in range(64)])
    weight = torch.zeros(5, 8, requires_grad=True)
    losses = []
    for _ in range(UPDATES):
        loss = function(features @ weight.t(), labels, **options)
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.data -= 0.5 * gradient
        losses.append(loss.item())
    return losses


def corpus(folder):
    """A made-up pair of languages, as the fairseq at hand binarizes it."""
    from fairseq import options
    from fairseq_cli import preprocess

    draw = random.Random(1)
    lines = [draw.choices(range(1, 30), range(29, 0, -1), k=draw.randint(2, 9)) for _ in range(400)]
    for side, turned in (("de", 1), ("en", -1)):
        text = "".join(" ".join(f"{side}{n}" for n in line[::turned]) + "\n" for line in lines)
        for split in ("train", "test", "valid"):
            (folder / f"{split}.{side}").write_text(text)
    splits = [f"--{split}pref={folder}/{split}" for split in ("train", "test", "valid")]
    parser = options.get_preprocessing_parser()
    words = ["-s", "de", "-t", "en", *splits, "--workers", "1", "--destdir", str(folder / "bin")]
    preprocess.main(parser.parse_args(words))
    return folder / "bin"


def fairseq_losses(data, folder, criterion, *words, updates=UPDATES):
    """Losses in nats a token of a training by ``fairseq-train``, batch by batch."""
    from fairseq import options
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.distributed.utils import call_main
    from fairseq_cli import train

    # From the same seed, fairseq's versions put the sentences in different orders: the test set,
    # which is not shuffled, stands in for the training set, and its batches keep their order.
    words = [
        *(str(data), "--train-subset", "test", "--curriculum", "1000000"),
        *("--distributed-world-size", "1"),  # also where there are several GPUs
        *(*MODEL, "--user-dir", str(Path(__file__).parents[1] / "el_fairseq")),
        *("--optimizer", "adam", "--lr", "0.005", "--max-tokens", "200", "--seed", "1"),
        *("--max-update", str(updates), "--required-batch-size-multiple", "1"),
        *("--num-workers", "0", "--disable-validation", "--no-save", "--log-format", "none"),
        *("--save-dir", str(folder), "--label-smoothing", "0.1", "--criterion", criterion, *words),
    ]
    parser = options.get_training_parser()
    config = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, words))
    kind = CRITERION_REGISTRY[criterion]
    forward, losses = kind.forward, []

    def recorded(self, model, sample, reduce=True):
        result = forward(self, model, sample, reduce)
        losses.append(result[0].item() / result[1])
        return result

    kind.forward = recorded
    try:
        call_main(config, train.main)
    finally:
        kind.forward = forward
    return losses


def main(folder):
    found = versions()
    losses = {
        "CE, plain": plain_losses(cross_entropy),
        "EL, plain": plain_losses(encouraging_loss, log_end=0.75),
    }
    if found["fairseq"]:
        import el_fairseq.criterion  # noqa: F401  (registers it)

        data = corpus(folder)
        losses["CE, fairseq"] = fairseq_losses(
            data, folder, "label_smoothed_cross_entropy", "--cpu"
        )
        losses["EL, fairseq"] = fairseq_losses(data, folder, "encouraging_loss", "--cpu")
    print(json.dumps({"versions": found, "losses": losses}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
