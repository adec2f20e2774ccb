"""Class weights from counts, by themselves and in the criterion."""

import pytest
import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from small_models import PAD, SIZE, Task, criterion, sample, train_once, translation_model

from el_fairseq.class_weights import weights_of_counts, weights_of_dictionary


def test_weights_fall_with_the_smoothed_count_and_average_one_over_the_tokens():
    counts = torch.tensor([90.0, 9.0, 1.0, 0.0])
    for power in (0.5, 1.0):
        weights = weights_of_counts(counts, power, smoothing=1.0)
        assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
        ratios = weights / weights[0]
        expected = [1, (91 / 10) ** power, (91 / 2) ** power, 91**power]
        assert ratios.tolist() == pytest.approx(expected, rel=1e-5)
    assert weights_of_counts(counts, 0.0, 1.0).tolist() == pytest.approx([1] * 4)


def test_counts_of_nothing_are_refused():
    with pytest.raises(ValueError, match="all of these are 0"):
        weights_of_counts([0, 0], 1.0, 1.0)


def test_symbols_that_fairseq_does_not_count_weigh_as_the_average_token_does():
    dictionary = Dictionary()
    dictionary.add_symbol("often", n=98)
    dictionary.add_symbol("seldom", n=2)
    weights = weights_of_dictionary(dictionary, power=1.0, smoothing=0.5)
    assert weights[: dictionary.nspecial].tolist() == [1] * dictionary.nspecial
    assert weights[dictionary.index("seldom")] > 10 * weights[dictionary.index("often")]


class CountingTask(Task):
    """Its target dictionary holds 17 words, each rarer than the one before."""

    def __init__(self):
        self.target_dictionary = Dictionary()
        for number in range(17):
            self.target_dictionary.add_symbol(f"word{number}", n=1000 // (number + 1))


@pytest.mark.parametrize("fused", [False, True])
def test_with_the_bonus_off_the_criterion_is_pytorchs_weighted_cross_entropy(fused):
    task, model, data = CountingTask(), translation_model(), sample()
    options = {"bonus_weight": 0.0, "fused_projection": fused}
    actual = train_once(criterion(task, class_weight_power=1.0, **options), model, data)
    expected = F.cross_entropy(
        model(**data["net_input"])[0].flatten(0, 1),
        data["target"].flatten(),
        weight=weights_of_dictionary(task.target_dictionary, 1.0, 10.0).double(),
        label_smoothing=0.1 * SIZE / (SIZE - 1),
        ignore_index=PAD,
        reduction="sum",
    )
    assert actual["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    plain = train_once(criterion(**options), model, data)
    torch.testing.assert_close(actual["log"]["nll_loss"], plain["log"]["nll_loss"])


def test_deferred_weights_begin_at_their_update():
    task, model = CountingTask(), translation_model()
    deferred = criterion(task, class_weight_power=1.0, class_weight_delay_updates=2)
    always = criterion(CountingTask(), class_weight_power=1.0)(model, sample())[0]
    never = criterion()(model, sample())[0]
    losses = [task.train_step(sample(), model, deferred, None, update_num=n)[0] for n in range(4)]
    torch.testing.assert_close(torch.stack(losses), torch.stack([never, never, always, always]))
