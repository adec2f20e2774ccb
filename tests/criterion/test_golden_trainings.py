"""Small trainings have the same losses on every machine and every version of what they stand on."""

import json
import random

import pytest
from conftest import ROOT
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.distributed.utils import call_main
from fairseq_cli import train
from sizes import transformer, words_of
from tiny import preprocess
from trainings import configuration, with_criterion

# In nats a token, of each of fifty updates.
GOLDEN = json.loads((ROOT / "tests" / "golden" / "trainings.json").read_text())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A made-up pair of languages, as the fairseq at hand binarizes it."""
    folder, draw = tmp_path_factory.mktemp("corpus"), random.Random(1)
    lines = [draw.choices(range(1, 30), range(29, 0, -1), k=draw.randint(2, 9)) for _ in range(400)]
    for side, turned in (("de", 1), ("en", -1)):
        text = "".join(" ".join(f"{side}{n}" for n in line[::turned]) + "\n" for line in lines)
        for split in ("train", "test", "valid"):
            (folder / f"{split}.{side}").write_text(text)
    splits = [f"--{split}pref={folder}/{split}" for split in ("train", "test", "valid")]
    preprocess("-s", "de", "-t", "en", *splits, "--destdir", str(folder / "bin"))
    return folder / "bin"


@pytest.mark.parametrize("criterion", GOLDEN)
def test_a_training_has_the_losses_that_it_has_on_other_stacks(criterion, corpus, monkeypatch):
    # From the same seed, fairseq's versions put the sentences in different orders: the test set,
    # which is not shuffled, stands in for the training set, and its batches keep their order.
    words = [
        *("--train-subset", "test", "--curriculum", "1000000", "--max-tokens", "200"),
        *("--arch", "transformer", *words_of(transformer(16)), "--lr", "0.005"),
        *("--max-epoch", "0", "--max-update", "50", "--disable-validation", "--no-save"),
        *("--save-dir", corpus.parent, "--log-format", "none"),
        *("--distributed-world-size", "1"),  # also where there are several GPUs
    ]
    cfg = with_criterion(configuration(corpus, *words), criterion)
    kind, losses = CRITERION_REGISTRY[criterion], []
    forward = kind.forward

    def recorded(self, model, sample, reduce=True):
        result = forward(self, model, sample, reduce)
        losses.append(result[0].item() / result[1])
        return result

    monkeypatch.setattr(kind, "forward", recorded)
    call_main(cfg, train.main)
    assert losses == pytest.approx(GOLDEN[criterion], abs=1e-4)
