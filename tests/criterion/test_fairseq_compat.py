"""What fairseq does in silence, the extension says, once."""

import numpy as np
import pytest
import torch
from fairseq.data import data_utils
from fairseq_cli import train as fairseq_train
from omegaconf import open_dict
from trainings import ENCODER_DECODER, configuration, with_criterion

METRIC = "checkpoint_best.pt is going to be chosen by"


def batches(sentences, multiple):
    lengths = np.arange(1, sentences + 1)
    return data_utils.batch_by_size(
        iter(range(sentences)),
        num_tokens_fn=lengths.__getitem__,
        num_tokens_vec=lengths,
        max_sentences=16,
        required_batch_size_multiple=multiple,
    )


def test_one_warning_says_how_many_sentences_are_left_out_and_how_to_keep_them(caplog):
    assert sum(map(len, batches(53, 1))) == 53
    assert sum(map(len, batches(48, 8))) == 48
    assert not caplog.messages
    if sum(map(len, batches(53, 8))) == 53:
        return  # stock fairseq 0.12.2 keeps them
    batches(50, 8)
    (message,) = [m for m in caplog.messages if "leaves out" in m]
    assert "5 of these 53 sentences" in message
    assert "--required-batch-size-multiple 1" in message


@pytest.fixture(scope="module")
def cfg(small):
    return configuration(
        *(small / "bin", "--arch", "transformer", *ENCODER_DECODER),
        *("--max-update", "1", "--no-epoch-checkpoints"),
    )


ACCURACY = {"best_checkpoint_metric": "accuracy", "maximize_best_checkpoint_metric": True}


@pytest.mark.parametrize(
    ("criterion", "checkpoint", "is_said"),
    [
        ({}, {}, True),
        ({}, {"best_checkpoint_metric": "nll_loss"}, True),
        ({"report_accuracy": True}, ACCURACY, False),
        ({"bonus_weight": 0.0}, {}, False),
        ({"name": "label_smoothed_cross_entropy"}, {}, False),
        ({}, {"no_save": True}, False),
        ({}, None, False),
    ],
)
def test_a_training_of_el_says_when_its_loss_chooses_the_best_checkpoint(
    cfg, criterion, checkpoint, is_said, tmp_path, caplog
):
    chosen = with_criterion(cfg, **criterion)
    with open_dict(chosen):
        chosen.checkpoint.update({"save_dir": str(tmp_path), **(checkpoint or {})})
        chosen.dataset.disable_validation = checkpoint is None
    fairseq_train.main(chosen)
    said = [message for message in caplog.messages if METRIC in message]
    assert len(said) == is_said
    if said:
        metric = (checkpoint or {}).get("best_checkpoint_metric", "loss")
        assert f"{METRIC} {metric}," in said[0]
        advice = "--best-checkpoint-metric accuracy --report-accuracy --maximize-best"
        assert advice in said[0]
    if checkpoint is ACCURACY:
        best = torch.load(tmp_path / "checkpoint_best.pt")["extra_state"]["best"]
        assert 0 <= best <= 100
