import json

from el_fairseq.experiments.training_log import curves, parse


def line(part, epoch, nll=2.5):
    numbers = {f"{part}_nll_loss": nll, f"{part}_accuracy": 60, f"{part}_num_updates": 10 * epoch}
    written = {"epoch": epoch, **{name: str(number) for name, number in numbers.items()}}
    return f"2026-11-23 21:00:00 | INFO | {part} | {json.dumps(written)}\n"


def test_records_lose_the_prefix_and_become_numbers():
    numbers = {"epoch": 1.0, "nll_loss": 2.5, "accuracy": 60.0, "num_updates": 10.0}
    assert parse(line("valid", 1)) == ("valid", numbers)


def test_other_lines_and_a_record_that_a_kill_cut_off_are_none():
    assert parse("2026-11-23 21:00:00 | INFO | fairseq.trainer | loaded {checkpoint}\n") is None
    for after in ('fairseq-train --eval-bleu-args \'{"beam": 1}\n', '{"beam": 1}\n'):
        assert parse(line("valid", 1)[:-20] + after) is None


def test_the_curves_have_each_validated_epoch_once_by_its_last_record(tmp_path):
    log = tmp_path / "train.log"
    parts = [line("train", 1), line("train", 2), line("valid", 2), line("train", 3)]
    again = [line("train", 2, 2.0), line("valid", 2, 4.0), "Killed\n"]
    log.write_text("".join([*parts, *again]))
    assert curves(log) == {
        "updates": [20],
        **{"train_nll": [2.0], "train_accuracy": [60.0]},
        **{"valid_nll": [4.0], "valid_accuracy": [60.0]},
    }
