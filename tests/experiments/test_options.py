import re
import shlex

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.experiments.config import Experiment
from el_fairseq.experiments.options import (
    check_decoding,
    check_training,
    divided_update_freq,
    shared_options,
)

OWN = ["--arch", "transformer", "--optimizer", "adam", "--lr", "0.1", "--update-freq", "4"]
OWN += ["--max-update", "50"]
EL = ["--criterion", "encouraging_loss", "--log-end", "0.5"]


def experiment(own="", of_el="", last=0):
    return Experiment(
        title="Small",
        corpus={"command": "make it"},
        train={"options": shlex.join(OWN) + " " + own},
        losses={"EL": f"{shlex.join(EL)} {of_el}", "CE": "--clip-norm 1"},
        evaluate={"last": last},
    )


REFUSED = """
--seed 7|--log-end 0.9|--criterion cross_entropy|--bonus-weight=0.5|--class-weight-power 1
--save-dir here|--no-save|--no-last-checkpoints|--restore-file x.pt|--reset-meters|-sen
--user-dir x|--train-subset=test|--log-format json|--cpu|--distributed-world-size 2
"""


@pytest.mark.parametrize("given", REFUSED.strip().replace("\n", "|").split("|"))
def test_an_option_that_makes_another_training_than_the_runs_name_says_is_refused(given):
    flag = given[:2] if given == "-sen" else re.split("[ =]", given)[0]
    with pytest.raises(UserError, match=f"^{flag} in the options after -- is refused: "):
        check_training(experiment(), "EL", shlex.split(given))


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("--max-update 0", "neither --max-epoch nor --max-update is given"),
        ("--task language_modeling", "--task language_modeling is refused: the runs translate"),
        ("other-data", "fairseq refuses the options of EL: unrecognized arguments: other-data"),
        ("--see 7", "fairseq refuses the options of EL: unrecognized arguments: --see 7"),
        ("--arch nonsense", "argument --arch/-a: invalid choice: 'nonsense'"),
        ("--label-smoothing 1.5", "the loss EL: label_smoothing is 1.5, expected"),
    ],
)
def test_options_that_cannot_be_trained_with_end_in_one_line(given, advice):
    with pytest.raises(UserError) as refused:
        check_training(experiment(), "EL", shlex.split(given))
    assert advice in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("own", "name", "options", "reason"),
    [
        ("--criterion cross_entropy", "EL", "", r"--criterion in \[train\] options is refused"),
        ("", "EL", "--seed 3", "--seed in the options of the loss EL is refused"),
        ("", "EL", "--log-end 1.5", r"the loss EL: log_end is 1\.5, expected"),
        ("", "CE", "", "the loss CE has no --criterion"),
    ],
)
def test_the_same_options_are_refused_in_an_experiments_file(own, name, options, reason):
    with pytest.raises(UserError, match=reason):
        check_training(experiment(own, options), name)


def test_options_that_leave_the_run_what_it_is_are_taken():
    given = "--max-update 10 --dropout=0.2 --label-smoothing 0 --fused-projection --no-inplace"
    read = check_training(experiment(), "EL", given.split())
    assert (read.max_update, read.dropout, read.log_end) == (10, 0.2, 0.5)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("--nbest 3", "--nbest is refused for fairseq-generate: a score is that of the best"),
        ("-s en -t de", "-s is refused for fairseq-generate"),
        ("--gen-subset=valid", "--gen-subset is refused for fairseq-generate"),
        ("--remove-bpe", "--remove-bpe is refused"),
        ("--skip-invalid-size-inputs-valid-test", "Allowed are --batch-size, --beam, --bf16, "),
        ("--beam x", "argument --beam: invalid int value: 'x'"),
    ],
)
def test_an_option_of_a_translation_that_changes_what_its_score_means_is_refused(given, advice):
    with pytest.raises(UserError) as refused:
        check_decoding(shlex.split(given))
    assert advice in str(refused.value) and "\n" not in str(refused.value)


def test_options_of_the_search_are_taken():
    assert check_decoding(shlex.split("--beam 4 --lenpen -0.6 --temperature 1.2 --fp16")).beam == 4


def test_gpus_share_the_batch_that_one_has_or_are_refused():
    everything = check_training(experiment(), "EL")
    shares = [divided_update_freq(everything, gpus) for gpus in (1, 2, 4)]
    assert shares == [[], ["--update-freq", "2"], ["--update-freq", "1"]]
    with pytest.raises(UserError, match="--update-freq is 4, which is not divisible by 3 GPUs"):
        divided_update_freq(everything, 3)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("--keep-last-epochs 3", "averaged, but --keep-last-epochs leaves 3: lower --last"),
        ("--max-epoch 4", "but --max-epoch, by --save-interval, leaves 4"),
        ("--max-epoch 8 --save-interval 12", "but --max-epoch, by --save-interval, leaves 0"),
        ("--no-epoch-checkpoints", "but --no-epoch-checkpoints leaves 0"),
    ],
)
def test_a_training_that_will_not_keep_what_is_averaged_is_refused(given, reason):
    with pytest.raises(UserError, match=reason):
        check_training(experiment(last=5), "EL", given.split())
    check_training(experiment(), "EL", given.split())


def test_the_options_that_runs_share_are_those_without_loss_and_seed():
    options = [*OWN, *EL, "--dropout", "0.2", "--report-accuracy", "--seed", "3"]
    assert shared_options(options, "EL", EL) == [*OWN, "--dropout", "0.2"]
    with pytest.raises(UserError, match="loss EL has the options --criterion x, expected some of"):
        shared_options(options, "EL", ["--criterion", "x"])
