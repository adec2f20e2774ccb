"""Checkpoints go from one loss to the other and back, and open in programs of one's own."""

import sys

import torch
from conftest import run, succeed
from fairseq_cli import train as fairseq_train
from trainings import ENCODER_DECODER, configuration, with_criterion


def test_each_loss_goes_on_from_the_others_checkpoint_and_models_open_elsewhere(small, tmp_path):
    cfg = configuration(
        *(small / "bin", "--arch", "transformer", *ENCODER_DECODER),
        *("--no-epoch-checkpoints", "--disable-validation"),
    )
    made = []
    for criterion, from_last, last_update in (
        ("label_smoothed_cross_entropy", None, 2),
        ("encouraging_loss", "finetune_from_model", 2),
        ("label_smoothed_cross_entropy", "restore_file", 4),
        ("encouraging_loss", "restore_file", 6),
    ):
        chosen = with_criterion(cfg, criterion)
        chosen.common.seed += len(made)
        chosen.optimization.max_update = last_update
        chosen.checkpoint.save_dir = str(tmp_path / str(len(made)))
        if from_last:
            chosen.checkpoint[from_last] = made[-1]
        if from_last == "restore_file":
            chosen.checkpoint.update(reset_optimizer=True, reset_dataloader=True, reset_meters=True)
        fairseq_train.main(chosen)
        made.append(f"{chosen.checkpoint.save_dir}/checkpoint_last.pt")
    states = [torch.load(path) for path in made]
    criterions = [state["cfg"]["criterion"]["_name"] for state in states]
    assert criterions == ["label_smoothed_cross_entropy", "encouraging_loss"] * 2
    counts = [state["optimizer_history"][-1]["num_updates"] for state in states]
    assert counts == [2, 2, 4, 6]  # fine-tuning begins to count anew
    weights = [state["model"]["decoder.output_projection.weight"] for state in states]
    for before, after in zip(weights, weights[1:]):
        # A few updates of about 0.01 do not make up for a new start from another seed.
        assert 0 < (after - before).abs().max() < 0.08
    code = (
        "import el_fairseq.criterion\n"
        "from fairseq.models.transformer import TransformerModel\n"
        f"model = TransformerModel.from_pretrained({str(tmp_path / '1')!r}, 'checkpoint_last.pt', "
        f"{str(small / 'bin')!r})\n"
        "print('translation:', model.translate('haus baum'))\n"
    )
    assert "translation:" in succeed(run([sys.executable, "-c", code])).stdout
