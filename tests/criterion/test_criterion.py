"""The criterion against fairseq's own, in this process and in real runs of fairseq-train."""

import json
import logging

import pytest
import torch
from fairseq.logging import metrics
from fairseq.models.transformer import TransformerModel
from fairseq_cli import train as fairseq_train
from formula import literal_losses
from sizes import words_of
from small_models import (
    PAD,
    SIZE,
    TRANSFORMER,
    Task,
    criterion,
    cross_entropy,
    language_model,
    sample,
    train_once,
    translation_model,
)
from trainings import configuration, with_criterion

from el_fairseq.criterion import EncouragingLossCriterion


class CopyingModel(TransformerModel):
    """Has its own probabilities: half of them the softmax, half of them uniform."""

    def get_normalized_probs(self, net_output, log_probs, sample=None):
        probs = net_output[0].softmax(-1) / 2 + 0.5 / net_output[0].size(-1)
        return probs.log() if log_probs else probs


def copying_model():
    model = translation_model()
    model.__class__ = CopyingModel
    return model


MODELS = {
    "untied": (translation_model, {}, False),
    "tied": (translation_model, {"share_decoder_input_output_embed": True}, False),
    "language model": (language_model, {}, True),
    "tied language model": (language_model, {"share_decoder_input_output_embed": True}, True),
    "own probabilities": (copying_model, {}, False),
}


@pytest.fixture(params=MODELS)
def model_and_sample(request):
    build, options, language_modeling = MODELS[request.param]
    return build(**options), sample(language_modeling)


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("options", [{"label_smoothing": 0.0}, {}, {"ignore_prefix_size": 2}])
def test_with_the_bonus_off_loss_log_and_gradients_are_those_of_fairseqs_cross_entropy(
    model_and_sample, options, reduce
):
    options = {**options, "report_accuracy": True}
    actual = train_once(criterion(bonus_weight=0.0, **options), *model_and_sample, reduce)
    expected = train_once(cross_entropy(**options), *model_and_sample, reduce)
    # fairseq takes log-probabilities in float32, also of float64 logits.
    torch.testing.assert_close(actual, expected, check_dtype=False, rtol=1e-4, atol=1e-5)


def test_adaptive_softmax_is_served_through_its_log_probabilities():
    # Without gradients: fairseq's adaptive log-probabilities overwrite what autograd has saved.
    adaptive_model = translation_model(adaptive_softmax_cutoff="8,12")
    with torch.no_grad():
        actual = criterion(bonus_weight=0.0, report_accuracy=True)(adaptive_model, sample())
        expected = cross_entropy(report_accuracy=True)(adaptive_model, sample())
    torch.testing.assert_close(actual, expected, check_dtype=False)


@pytest.mark.parametrize("log_end", [0.5, 1.0])
def test_the_loss_is_the_literal_formula_in_fairseqs_convention(model_and_sample, log_end):
    model, data = model_and_sample
    net_output = model(**data["net_input"])
    log_probs = model.get_normalized_probs(net_output, log_probs=True, sample=data)
    kept = data["target"].ne(PAD)
    expected = literal_losses(
        log_probs[kept], data["target"][kept], 0.1 * SIZE / (SIZE - 1), log_end=log_end
    ).sum()
    actual = train_once(criterion(log_end=log_end), model, data)["loss"]
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "own probabilities"])
@pytest.mark.parametrize("ignore_prefix_size", [0, 2])
def test_the_fused_projection_changes_nothing_but_the_memory(name, ignore_prefix_size):
    build, options, language_modeling = MODELS[name]
    model, data = build(**options), sample(language_modeling)
    options = {"report_accuracy": True, "ignore_prefix_size": ignore_prefix_size}
    plain = train_once(criterion(**options), model, data)
    fused = train_once(criterion(fused_projection=True, **options), model, data)
    torch.testing.assert_close(fused, plain)


def test_the_mean_squared_error_has_its_own_loss_and_fairseqs_nll():
    model = translation_model()
    mse = train_once(criterion(label_smoothing=0.0, base_loss="mse"), model, sample())
    ce = train_once(cross_entropy(label_smoothing=0.0), model, sample())
    torch.testing.assert_close(
        mse["log"]["nll_loss"], ce["log"]["nll_loss"], check_dtype=False, rtol=1e-5, atol=1e-5
    )
    assert (mse["loss"] - ce["loss"]).abs() > 1


@pytest.mark.parametrize(
    ("delay", "warmup", "weights"),
    [(2, 0, [0, 0, 1, 1, 1, 1]), (0, 4, [0, 0.25, 0.5, 0.75, 1, 1]), (2, 2, [0, 0, 0, 0.5, 1, 1])],
)
def test_the_bonus_waits_for_its_delay_and_rises_over_its_warmup(delay, warmup, weights):
    task, model = Task(), translation_model()
    scheduled = criterion(task, bonus_delay_updates=delay, bonus_warmup_updates=warmup)
    assert scheduled.current_bonus_weight() == 1  # outside of a training
    for update, weight in enumerate(weights):
        loss, sample_size, log = task.train_step(
            sample(), model, scheduled, None, update_num=update
        )
        assert log["bonus_weight"] / sample_size == pytest.approx(weight)
        expected = criterion(bonus_weight=float(weight))(model, sample())[0]
        torch.testing.assert_close(loss, expected)


def test_the_log_shows_the_bonus_of_the_latest_update_not_an_average():
    with metrics.aggregate() as shown:
        for weight in (0.0, 0.25):
            log = {"loss": 1.0, "nll_loss": 1.0, "ntokens": 5, "sample_size": 5}
            EncouragingLossCriterion.reduce_metrics([{**log, "bonus_weight": 5 * weight}] * 2)
    assert shown.get_smoothed_values()["bonus_weight"] == 0.25


def logged(caplog, key):
    """The values of a key in the log of training updates since the last call."""
    updates = [json.loads(one.message) for one in caplog.records if one.name == "train_inner"]
    return [float(update[key]) for update in updates if key in update]


def test_the_schedule_goes_on_after_resuming_and_counts_updates_not_batches(
    small, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, logger="fairseq")  # where another test made it silent
    cfg = configuration(
        *(small / "bin", "--arch", "transformer", *words_of(TRANSFORMER)),
        *("--update-freq", "2", "--max-epoch", "9", "--save-dir", tmp_path),
        *("--no-epoch-checkpoints", "--log-format", "json", "--log-interval", "1"),
    )
    options = {"bonus_delay_updates": 2, "bonus_warmup_updates": 4, "report_accuracy": True}
    for last, weights in ((4, [0, 0, 0, 0.25]), (8, [0.5, 0.75, 1, 1])):
        caplog.clear()
        training = with_criterion(cfg, **options)
        training.optimization.max_update = last
        fairseq_train.main(training)
        assert logged(caplog, "num_updates") == list(range(last - 3, last + 1))
        assert logged(caplog, "bonus_weight") == weights
        assert logged(caplog, "accuracy")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"log_end": 1.5}, "log_end is 1.5, expected a number in (0, 1]"),
        ({"ignore_prefix_size": -1}, "ignore_prefix_size is -1, expected 0 or more"),
        ({"bonus_delay_updates": -5}, "bonus_delay_updates is -5, expected 0 or more"),
        ({"bonus_warmup_updates": None}, "bonus_warmup_updates is None, expected 0 or more"),
        ({"class_weight_power": -1.0}, "class_weight_power is -1.0, expected 0 or more"),
        ({"class_weight_delay_updates": -1}, "class_weight_delay_updates is -1, expected 0 or"),
        (
            {"class_weight_power": 1.0, "class_weight_smoothing": 0.0},
            "class_weight_smoothing is 0.0, expected more than 0",
        ),
        ({"fused_projection": True, "base_loss": "mse", "label_smoothing": 0.0}, "leave it out"),
    ],
)
def test_a_bad_option_is_refused_by_name_and_value(options, reason):
    with pytest.raises((TypeError, ValueError)) as caught:
        criterion(**options)
    assert reason in str(caught.value)


def test_a_bad_option_ends_fairseq_train_with_one_line_before_it_trains(small, tmp_path):
    words = ["--arch", "transformer", *words_of(TRANSFORMER), "--save-dir", tmp_path]
    cfg = with_criterion(configuration(small / "bin", *words), log_end=1.5)
    with pytest.raises(SystemExit, match=r"^criterion encouraging_loss: log_end is 1\.5, .*$"):
        fairseq_train.main(cfg)
    assert not list(tmp_path.iterdir())
