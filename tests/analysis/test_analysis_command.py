"""``python -m el_fairseq.analysis``, and the binarizing of other text for it, from the outside."""

import contextlib
import io
import json
import logging
import shlex
import sys

import numpy as np
import pytest
from conftest import ROOT

from el_fairseq.analysis import __main__ as analysis_module
from el_fairseq.common.cli import UserError
from el_fairseq.corpora import binarize as binarize_module


@pytest.fixture(scope="module", autouse=True)
def logging_is_left_as_it_is():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "disable", lambda level: None)
        yield


@pytest.fixture(scope="module")
def analysed(tiny, tmp_path_factory, call):
    """A whole analysis with everything switched on: its folder, what it printed, its JSON."""
    folder, said = tmp_path_factory.mktemp("analysed"), io.StringIO()
    call(
        binarize_module.main,
        *("--like", tiny.bin, "--subwords", tiny.subwords, "--out", folder / "shuffled"),
        *("--source", tiny.text / "test.de", "--target", tiny.text / "test.en"),
        *("--shuffle-words", "1"),
    )
    with contextlib.redirect_stdout(said):
        call(
            analysis_module.main,
            *(tiny.bin, "--model", f"CE={tiny.ce}", "--model", f"both={tiny.ce}:{tiny.el}"),
            *("--ood", f"shuffled={folder / 'shuffled'}:test"),
            *("--subwords", tiny.subwords, "--noise-sentences", "10"),
            *("--bootstrap", "20", "--beam", "2"),
            *("--log-end", "0.75", "--out", folder / "analysis"),
        )
    return folder, said.getvalue(), json.loads((folder / "analysis/analysis.json").read_text())


def test_it_writes_the_columns_of_all_tokens(analysed):
    folder, _, result = analysed
    both = {name: np.load(folder / "analysis" / f"tokens-{name}.npz") for name in ("CE", "both")}
    for name, columns in both.items():
        assert {len(columns[column]) for column in columns.files} == {result["tokens"]}
        model, margin = result["models"][name], columns["margin"].mean(dtype=np.float64)
        assert model["accuracy"] == pytest.approx(columns["correct"].mean())
        assert model["quantities"]["margin"]["mean"] == pytest.approx(margin, rel=1e-5)
        assert (columns["correct"] == (columns["margin"] >= 0)).all()
        assert (columns["frequency"][columns["token"] == 2] == -1).all()
    assert (both["CE"]["token"] == both["both"]["token"]).all()


def test_every_question_is_answered(analysed, tiny):
    folder, said, result = analysed
    assert (result["sentences"], result["sentences_left_out"]) == (43, 0)
    assert result["models"]["both"]["checkpoints"] == [str(tiny.ce), str(tiny.el)]
    assert result["models"]["CE"]["gradient"]["log_end"] == 0.75
    assert result["ood"]["shuffled"]["sentences"] == 43
    assert result["noise"]["characters"]["both"]["rates"] == [0, 0.1, 0.2, 0.3]
    assert set(result["models"]["CE"]["by_frequency"]) == {"frequent", "medium", "rare", "special"}
    rows = said.split("nll after it, nats")[1].splitlines()
    for name, model in result["models"].items():
        fitted = model["temperature"]
        assert fitted["before"].items() <= model["calibration"].items()
        assert fitted["after"] != fitted["before"] and 0.05 <= fitted["temperature"] <= 20
        row = next(row for row in rows if name in row)
        assert f"{model['accuracy']:.2%}" in row and f"{fitted['temperature']:.3f}" in row
    python, *words = shlex.split(result["command"])
    assert (ROOT / python).samefile(sys.executable)
    assert words[:2] == ["-m", "el_fairseq.analysis"]
    assert f"--out {folder / 'analysis'}" in result["command"]


def test_a_language_model_is_analysed_without_a_source(tiny, tmp_path, call):
    model = f"LM={tiny.language_model}"
    call(analysis_module.main, tiny.lm, "--model", model, "--out", tmp_path)
    result = json.loads((tmp_path / "analysis.json").read_text())
    assert "noise" not in result
    assert result["tokens"] > 100


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "CE={ce}", "--model", "CE={el}"], "--model: a name is given twice"),
        (["--model", "{ce}"], "expected NAME="),
        (["--model", "CE=nowhere.pt"], "nowhere.pt"),
        (["--model", "CE={ce}", "--ood", "x=nowhere:test"], "nowhere holds no dictionary"),
        (["--model", "CE={ce}", "--ood", "x=nowhere"], "expected NAME=FOLDER:SUBSET"),
        (["--model", "CE={ce}", "--subwords", "nowhere"], "subword model nowhere cannot be read"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    tiny, tmp_path, call, capsys, options, says
):
    options = [option.format(ce=tiny.ce, el=tiny.el) for option in options]
    with pytest.raises((UserError, SystemExit)) as refusal:
        call(analysis_module.main, tiny.bin, *options, "--out", tmp_path / "out")
    assert says in f"{refusal.value} {capsys.readouterr().err}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--noise-sentenses", "5"], "unrecognized arguments: --noise-sentenses 5"),
        (["--subset", "valid"], "unrecognized arguments: --subset valid"),
        (["--bootstrap", "0"], "expected a whole number from 1"),
    ],
)
def test_options_that_would_make_a_report_say_what_it_is_not_are_refused(options, reason, capsys):
    parse = analysis_module.parser(of_report=True).parse_args
    with pytest.raises(SystemExit):
        parse(options)
    assert reason in capsys.readouterr().err
    parse(["--noise-sentences", "0", "--beam", "2", "--cpu"])
