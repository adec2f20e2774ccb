import json
import types

from el_fairseq.experiments.training_log import Progress, curves, parse


def line(part, epoch, nll=2.5):
    numbers = {f"{part}_nll_loss": nll, f"{part}_accuracy": 60, f"{part}_num_updates": 10 * epoch}
    written = {"epoch": epoch, **{name: str(number) for name, number in numbers.items()}}
    return f"2026-11-23 21:00:00 | INFO | {part} | {json.dumps(written)}\n"


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


def test_progress_is_told_with_the_time_that_all_runs_take(monkeypatch, capsys):
    limits = types.SimpleNamespace(max_update=100, max_epoch=90)
    runs = [
        types.SimpleNamespace(name=f"run{n}", folder=n, is_trained=n == 0, checked=limits)
        for n in range(4)
    ]
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(runs)

    def said(updates, epochs):
        numbers = {"update": epochs, "num_updates": updates, "loss": "3", "wps": "2000"}
        progress.see(runs[1], f"2026 | INFO | train_inner | {json.dumps(numbers)}\n")
        return capsys.readouterr().out

    begun = "run1         update     10  loss 3.000 bits, 2,000 tokens/s; 1 of 4 runs trained"
    assert said(10, 1) == f"{begun}\n"
    now[0] = 600
    # Half a run in ten minutes, by updates or epochs: 2.4 runs are left.
    assert said(60, 1).endswith("; 1 of 4 runs trained, about 0:48:00 left\n")
    now[0] = 700
    assert "about 0:48" not in said(60, 80)
    now[0] = 701
    assert said(90, 1) == ""
    now[0] = 86400
    assert "about 2 days, 13:56:00 left" in said(91, 1)
    # A criterion that knows no accuracy.
    progress.see(
        runs[1], '| INFO | valid | {"epoch": 1, "valid_loss": "6", "valid_nll_loss": "4.5"}'
    )
    assert capsys.readouterr().out == "run1         epoch   1  validation: nll 4.500 bits\n"
