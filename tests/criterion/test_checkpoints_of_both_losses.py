"""Checkpoints go from one loss to the other and back, and open in programs of one's own."""

import sys

import pytest
import torch
from conftest import run, succeed
from fairseq_cli import train as fairseq_train
from trainings import ENCODER_DECODER, configuration, with_criterion


@pytest.fixture(scope="module")
def checkpoints(small_corpus, tmp_path_factory):
    """CE; EL from CE's weights; CE again, restored from EL's checkpoint; EL likewise from that."""
    folder = tmp_path_factory.mktemp("losses")
    cfg = configuration(
        *(small_corpus.translation, "--arch", "transformer", *ENCODER_DECODER),
        *("--no-epoch-checkpoints", "--disable-validation"),
    )
    made = []
    for name, criterion, from_last, last_update in (
        ("ce", "label_smoothed_cross_entropy", None, 2),
        ("el", "encouraging_loss", "finetune_from_model", 2),
        ("ce-again", "label_smoothed_cross_entropy", "restore_file", 4),
        ("el-again", "encouraging_loss", "restore_file", 6),
    ):
        chosen = with_criterion(cfg, criterion)
        chosen.common.seed += len(made)
        chosen.optimization.max_update = last_update
        chosen.checkpoint.save_dir = str(folder / name)
        if from_last:
            chosen.checkpoint[from_last] = made[-1]
        if from_last == "restore_file":
            chosen.checkpoint.update(reset_optimizer=True, reset_dataloader=True, reset_meters=True)
        fairseq_train.main(chosen)
        made.append(str(folder / name / "checkpoint_last.pt"))
    return made


def test_each_loss_goes_on_from_the_others_checkpoint(checkpoints):
    states = [torch.load(path) for path in checkpoints]
    criterions = [state["cfg"]["criterion"]["_name"] for state in states]
    assert criterions == ["label_smoothed_cross_entropy", "encouraging_loss"] * 2
    counts = [state["optimizer_history"][-1]["num_updates"] for state in states]
    assert counts == [2, 2, 4, 6]  # fine-tuning begins to count anew
    weights = [state["model"]["decoder.output_projection.weight"] for state in states]
    for before, after in zip(weights, weights[1:]):
        # A few updates of about 0.01 do not make up for a new start from another seed.
        assert 0 < (after - before).abs().max() < 0.08


def test_from_pretrained_opens_one_in_a_program_that_imports_the_criterion(
    checkpoints, small_corpus
):
    folder, _, file = checkpoints[1].rpartition("/")
    code = (
        "import el_fairseq.criterion\n"
        "from fairseq.models.transformer import TransformerModel\n"
        f"model = TransformerModel.from_pretrained({folder!r}, {file!r}, "
        f"{str(small_corpus.translation)!r})\n"
        "print('translation:', model.translate('w1 w2'))\n"
    )
    assert "translation:" in succeed(run([sys.executable, "-c", code])).stdout
