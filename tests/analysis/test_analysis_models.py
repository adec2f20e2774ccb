import shutil

import numpy as np
import pytest
import torch
from made import TouchesAFile
from tiny import copy_with

from el_fairseq.analysis.models import load_models, load_subset
from el_fairseq.common.cli import UserError


def columns_of(tiny, paths, data=None, max_tokens=4096, subset="test"):
    data = data or tiny.bin
    (model,) = load_models({"M": [str(path) for path in paths]}, data, max_tokens=max_tokens)
    dataset = load_subset(model.task, data, subset)
    return model.token_columns(dataset, "tokens"), model, dataset


@pytest.mark.parametrize("names", [["ce"], ["el"], ["ce", "el"], ["language_model"]])
def test_models_ensembles_and_language_models_say_what_sentences_by_themselves_say(tiny, names):
    paths = [getattr(tiny, name) for name in names]
    data = tiny.lm if "language_model" in names else tiny.bin
    columns, model, dataset = columns_of(tiny, paths, data, max_tokens=100)
    for i in range(len(dataset)):
        sample, here = dataset.collater([dataset[i]]), columns["sentence"] == i
        (target,) = sample["target"]
        logits = [network(**sample["net_input"])[0][0].double() for network in model.networks]
        probs = sum(one.softmax(-1) for one in logits) / len(logits)
        assert columns["token"][here].tolist() == target.tolist()
        right = probs.log().gather(1, target.unsqueeze(1)).squeeze(1)
        np.testing.assert_allclose(columns["log_prob"][here], right, atol=2e-5)
        assert columns["correct"][here].tolist() == (probs.argmax(-1) == target).tolist()
    assert set(columns["sentence"]) == set(range(len(dataset)))
    assert (np.diff(columns["sentence"]) >= 0).all()
    if len(names) == 1:
        assert model.logits_are == "the network's own"
    else:
        np.testing.assert_allclose(columns["free_energy"], 0, atol=1e-5)
        assert "ensemble" in model.logits_are


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_checkpoint_is_computed_in_float32(tiny, tmp_path, dtype):
    def rounded(state, to=torch.float32):
        state["model"] = {name: tensor.to(dtype).to(to) for name, tensor in state["model"].items()}

    half = copy_with(tiny.ce, tmp_path / "half.pt", lambda state: rounded(state, dtype))
    columns, model, _ = columns_of(tiny, [half])
    expected, _, _ = columns_of(tiny, [copy_with(tiny.ce, tmp_path / "full.pt", rounded)])
    assert next(model.networks[0].parameters()).dtype == torch.float32
    for name in ("log_prob", "margin", "energy"):
        assert columns[name].dtype == np.float32
        np.testing.assert_array_equal(columns[name], expected[name])


def test_a_models_own_way_to_probabilities_is_believed(tiny):
    plain, model, dataset = columns_of(tiny, [tiny.ce])

    def mixed_with_uniform(net_output, log_probs, sample=None):
        probs = 0.5 * torch.softmax(net_output[0], -1) + 0.5 / net_output[0].size(-1)
        return probs.log() if log_probs else probs

    model.networks[0].get_normalized_probs = mixed_with_uniform
    columns = model.token_columns(dataset, "tokens")
    classes = len(model.task.target_dictionary)
    np.testing.assert_allclose(columns["prob"], 0.5 * plain["prob"] + 0.5 / classes, atol=1e-5)
    np.testing.assert_allclose(columns["free_energy"], 0, atol=1e-5)
    assert "its own way" in model.logits_are


def test_sentences_too_long_for_a_model_are_left_out_and_no_others(tiny, tmp_path):
    def shorten(state):
        state["cfg"]["model"].max_target_positions = 12
        state["cfg"]["task"]["max_target_positions"] = 12

    short = copy_with(tiny.ce, tmp_path / "short.pt", shorten)
    columns, _, dataset = columns_of(tiny, [short])
    whole = {i for i in range(len(dataset)) if len(dataset.tgt[i]) <= 12}
    assert set(columns["sentence"]) == whole < set(range(len(dataset)))
    with pytest.raises(UserError, match="--max-tokens is 5, and the longest sentence has more"):
        columns_of(tiny, [tiny.ce], max_tokens=5)


def test_several_subsets_are_one_dataset_in_their_order(tiny):
    both, _, dataset = columns_of(tiny, [tiny.ce], subset="test,valid")
    test, valid = (columns_of(tiny, [tiny.ce], subset=name)[0] for name in ("test", "valid"))
    assert len(dataset) == 43 + 30
    for name in ("token", "log_prob"):
        expected = np.concatenate([test[name], valid[name]])
        np.testing.assert_allclose(both[name], expected, atol=2e-5)


def grown(state):
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        state["model"][name] = torch.cat([state["model"][name]] * 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (grown, "M: .*bad.pt does not load with the dictionaries in .*the shape in current model"),
        (lambda state: state.update(code=TouchesAFile("touched")), "bad.pt was refused by torch"),
        (lambda state: (state.pop("cfg"), state.pop("args")), "bad.pt does not load"),
    ],
)
def test_a_checkpoint_that_does_not_serve_is_refused_in_one_line(
    tiny, tmp_path, monkeypatch, change, reason
):
    monkeypatch.chdir(tmp_path)
    bad = copy_with(tiny.el, tmp_path / "bad.pt", change)
    with pytest.raises(UserError, match=f"{reason}.*$"):
        load_models({"M": [str(bad)]}, tiny.bin)
    assert not (tmp_path / "touched").exists()


def test_data_that_is_missing_damaged_or_of_other_dictionaries_is_refused(tiny, tmp_path):
    (model,) = load_models({"M": [str(tiny.ce)]}, tiny.bin)
    copy = shutil.copytree(tiny.bin, tmp_path / "copy")
    binary = copy / "test.de-en.en.bin"
    binary.write_bytes(binary.read_bytes()[:-6])
    (copy / "dict.fr.txt").write_text("maison 3\narbre 2\n")
    load_subset(model.task, copy, "valid")
    for part in ("bin", "idx"):
        (copy / f"train.de-en.en.{part}").unlink()
    other = shutil.copytree(tiny.bin, tmp_path / "other")
    (other / "dict.de.txt").write_text("haus 3\nbaum 2\n")
    for data, subset, reason in (
        (tiny.bin, "test,dev", "Dataset not found: dev"),
        (tmp_path, "test", "no dictionary"),
        (copy, "test", r"test.de-en.en.idx and .bin are empty, cut off"),
        (copy, "train", "train of .*copy has no target side"),
        (other, "valid", "dict.de.txt is not a dictionary of the models"),
    ):
        with pytest.raises((UserError, FileNotFoundError), match=reason):
            load_subset(model.task, data, subset)
