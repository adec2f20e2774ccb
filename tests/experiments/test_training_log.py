from el_fairseq.experiments.training_log import epochs, parse

PREFIX = "2026-11-23 21:00:00 | INFO | "
VALID = PREFIX + 'valid | {"epoch": 1, "valid_nll_loss": "4.5", "valid_num_updates": "10"}\n'
TRAIN = PREFIX + 'train | {"epoch": 1, "train_loss": "6.1", "train_wall": "30"}\n'


def test_records_lose_the_prefix_and_become_numbers():
    assert parse(VALID) == ("valid", {"epoch": 1.0, "nll_loss": 4.5, "num_updates": 10.0})


def test_other_lines_are_no_records():
    assert parse(PREFIX + "fairseq.trainer | loaded {checkpoint}\n") is None


def test_an_epoch_trained_again_after_an_interruption_counts_once_with_its_later_record(tmp_path):
    log = tmp_path / "train.log"
    second = VALID.replace('"epoch": 1', '"epoch": 2')
    log.write_text(VALID + TRAIN + second + second.replace("4.5", "4.0"))
    assert [epoch["valid"]["nll_loss"] for epoch in epochs(log)] == [4.5, 4.0]
    assert epochs(log)[0]["train"]["loss"] == 6.1


def test_a_record_that_a_kill_cut_off_is_none(tmp_path):
    assert parse(VALID[:-20] + 'fairseq-train --eval-bleu-args \'{"beam": 1}\n') is None
    assert parse(VALID[:-20] + '{"beam": 1}\n') is None
