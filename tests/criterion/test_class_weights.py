"""Class weights from counts, by themselves and in the criterion."""

import pytest
import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from small_models import PAD, SIZE, Task, criterion, sample, train_once, translation_model

from el_fairseq.criterion import class_weights


def test_weights_fall_with_the_smoothed_count_and_average_one_over_the_tokens():
    dictionary, counts = Dictionary(), [90, 9, 1]
    with pytest.raises(ValueError, match="but all are 0"):
        class_weights(dictionary, 1.0, smoothing=1.0)
    for number, count in enumerate(counts):
        dictionary.add_symbol(f"word{number}", n=count)
    for power in (0.0, 0.5, 1.0):
        weights = class_weights(dictionary, power, smoothing=1.0)
        assert weights[: dictionary.nspecial].tolist() == [1] * dictionary.nspecial
        words = weights[dictionary.nspecial :]
        assert (words * torch.tensor(counts)).sum() / sum(counts) == pytest.approx(1)
        expected = [1, (91 / 10) ** power, (91 / 2) ** power]
        assert (words / words[0]).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_with_the_bonus_off_the_criterion_is_pytorchs_weighted_cross_entropy(fused):
    model, data = translation_model(), sample()
    options = {"bonus_weight": 0.0, "fused_projection": fused}
    actual = train_once(criterion(class_weight_power=1.0, **options), model, data)
    expected = F.cross_entropy(
        model(**data["net_input"])[0].flatten(0, 1),
        data["target"].flatten(),
        weight=class_weights(Task.target_dictionary, 1.0, 10.0).double(),
        label_smoothing=0.1 * SIZE / (SIZE - 1),
        ignore_index=PAD,
        reduction="sum",
    )
    assert actual["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    plain = train_once(criterion(**options), model, data)
    torch.testing.assert_close(actual["log"]["nll_loss"], plain["log"]["nll_loss"])


def test_deferred_weights_begin_at_their_update():
    task, model = Task(), translation_model()
    deferred = criterion(task, class_weight_power=1.0, class_weight_delay_updates=2)
    always = criterion(class_weight_power=1.0)(model, sample())[0]
    never = criterion()(model, sample())[0]
    losses = [task.train_step(sample(), model, deferred, None, update_num=n)[0] for n in range(4)]
    torch.testing.assert_close(torch.stack(losses), torch.stack([never, never, always, always]))
