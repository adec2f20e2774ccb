"""Small trainings have the same losses on every machine and every version of what they stand on."""

import json
import random

import pytest
from conftest import ROOT
from fairseq import options
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed.utils import call_main
from fairseq_cli import preprocess, train
from sizes import transformer, words_of

import el_fairseq.criterion  # noqa: F401  (registers it)

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
    parser = options.get_preprocessing_parser()
    words = ["-s", "de", "-t", "en", *splits, "--workers", "1", "--destdir", str(folder / "bin")]
    preprocess.main(parser.parse_args(words))
    return folder / "bin"


@pytest.mark.parametrize("criterion", GOLDEN)
def test_a_training_has_the_losses_that_it_has_on_other_stacks(criterion, corpus, monkeypatch):
    # From the same seed, fairseq's versions put the sentences in different orders: the test set,
    # which is not shuffled, stands in for the training set, and its batches keep their order.
    words = [
        *(str(corpus), "--train-subset", "test", "--curriculum", "1000000", "--cpu"),
        *("--arch", "transformer", *words_of(transformer(16)), "--dropout", "0"),
        *("--optimizer", "adam", "--lr", "0.005", "--max-tokens", "200", "--seed", "1"),
        *("--max-update", "50", "--required-batch-size-multiple", "1", "--num-workers", "0"),
        *("--disable-validation", "--no-save", "--log-format", "none"),
        *("--distributed-world-size", "1"),  # also where there are several GPUs
        *("--save-dir", str(corpus.parent), "--label-smoothing", "0.1", "--criterion", criterion),
    ]
    parser = options.get_training_parser()
    config = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, words))
    kind, losses = CRITERION_REGISTRY[criterion], []
    forward = kind.forward

    def recorded(self, model, sample, reduce=True):
        result = forward(self, model, sample, reduce)
        losses.append(result[0].item() / result[1])
        return result

    monkeypatch.setattr(kind, "forward", recorded)
    call_main(config, train.main)
    assert losses == pytest.approx(GOLDEN[criterion], abs=1e-4)
