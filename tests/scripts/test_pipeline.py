"""Corpus to scores by the repository's scripts and the real fairseq programs, in small."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, TINY, run, script, succeed
from small import MODEL

TRAIN = ["scripts/train.sh", "home-assistant-fr-en", "el", "1"]


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """A tiny EL run of two epochs."""
    out = tmp_path_factory.mktemp("runs") / "el0.5-seed1"
    succeed(script(*TRAIN, "--data", corpus, "--out", out, "--", *TINY, "--max-epoch", "2"))
    return out


@pytest.fixture
def copy_of_trained(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / trained.name)


def test_the_corpus_is_whole_and_says_what_it_is(corpus):
    manifest = json.loads((corpus / "manifest.json").read_text())
    for split, count in manifest["pairs"].items():
        for side in ("fr", "en"):
            for step in ("text", "bpe"):
                assert len((corpus / step / f"{split}.{side}").read_bytes().splitlines()) == count
            assert (corpus / "bin" / f"{split}.fr-en.{side}.bin").exists()
    assert not list(corpus.parent.glob(".*"))


def test_no_english_sentence_is_in_two_splits(corpus):
    splits = [
        set((corpus / "text" / f"{s}.en").read_text().splitlines())
        for s in ("train", "valid", "test")
    ]
    assert not splits[0] & splits[1]
    assert not (splits[0] | splits[1]) & splits[2]


def test_a_corpus_that_is_there_is_not_made_again(corpus):
    before = (corpus / "manifest.json").stat().st_mtime_ns
    result = script("data-prep/home-assistant.sh", "fr-en", "--archive", "none", "--out", corpus)
    assert succeed(result).stderr == f"The corpus is there: {corpus}\n"
    assert (corpus / "manifest.json").stat().st_mtime_ns == before


def test_an_archive_with_the_wrong_hash_ends_in_one_line_and_makes_no_corpus(tmp_path):
    archive = tmp_path / "homeassistant.whl"
    archive.write_bytes(b"not it")
    out = tmp_path / "corpus"
    result = script("data-prep/home-assistant.sh", "de-en", "--archive", archive, "--out", out)
    assert result.returncode == 1
    assert f"{archive} has SHA-256" in result.stderr.splitlines()[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["data-prep/home-assistant.sh", "xx-en"], "choose from 'de-en', 'fr-en'"),
        (["scripts/train.sh", "iwslt14-de-en", "ce"], "a criterion and a seed are needed"),
        (["scripts/evaluate.sh"], "name a run's folder"),
    ],
)
def test_a_wrong_call_gets_the_reason_and_the_usage_with_status_2(command, reason):
    result = script(*command)
    assert result.returncode == 2
    assert reason in result.stderr
    assert f"sage: bash {command[0]} " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason", "status"),
    [
        (["nonsense", "ce", "1"], "there is no experiment nonsense: name one of home-ass", 1),
        (["home-assistant-fr-en", "nonsense", "1"], "invalid choice: 'nonsense'", 2),
        (["home-assistant-fr-en", "ce", "-1"], "'-1', expected a whole number from 0", 2),
        (["home-assistant-fr-en", "el", "1", "--log-end", "1.5"], "'1.5', expected a number", 2),
    ],
)
def test_a_training_that_cannot_be_is_refused_in_one_line(arguments, reason, status):
    result = script("scripts/train.sh", *arguments)
    assert result.returncode == status
    assert reason in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "path",
    [
        "data-prep/home-assistant.sh",
        "data-prep/parallel-text.sh",
        "data-prep/data-bin.sh",
        "scripts/setup.sh",
        "scripts/train.sh",
        "scripts/evaluate.sh",
        "scripts/demo.sh",
        "scripts/report.sh",
        "scripts/test.sh",
    ],
)
def test_every_script_has_help(path):
    result = succeed(script(path, "--help"))
    assert f"bash {path}" in result.stdout


def test_a_run_leaves_checkpoints_logs_and_its_marker(trained):
    assert json.loads((trained / "training.json").read_text())["updates"] > 0
    assert (trained / "checkpoints" / "checkpoint2.pt").exists()
    assert list((trained / "tensorboard").glob("*/events*"))
    assert json.loads((trained / "run.json").read_text())["log_end"] == 0.5


def test_a_finished_run_is_not_trained_again(trained, corpus):
    log = (trained / "train.log").read_bytes()
    succeed(script(*TRAIN, "--data", corpus, "--out", trained, "--", *TINY, "--max-epoch", "2"))
    assert (trained / "train.log").read_bytes() == log


def test_other_options_in_the_same_folder_are_refused(trained, corpus):
    result = script(*TRAIN, "--data", corpus, "--out", trained, "--log-end", "0.75")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "was trained with log_end 0.5, now it is 0.75" in result.stderr


def test_a_killed_training_goes_on_from_its_checkpoint_and_a_second_start_is_told(corpus, tmp_path):
    out = tmp_path / "run"
    options = ["--data", corpus, "--out", out, "--", *TINY, "--max-epoch", "3"]
    command = ["bash", str(ROOT / TRAIN[0]), *TRAIN[1:], *map(str, options)]
    environment = {**os.environ, "EL_VENV": sys.prefix, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, start_new_session=True) as training:
        while not (out / "checkpoints" / "checkpoint1.pt").exists():
            assert training.poll() is None
            time.sleep(0.05)
        os.killpg(training.pid, signal.SIGSTOP)  # or it would be finished before the second starts
        second = script(*TRAIN, *options)
        os.killpg(training.pid, signal.SIGKILL)
    assert second.returncode == 1
    assert "is being trained by another process" in second.stderr
    succeed(script(*TRAIN, *options))
    assert "Loaded checkpoint" in (out / "train.log").read_text()
    assert (out / "checkpoints" / "checkpoint3.pt").exists()


def test_a_training_that_fails_ends_in_one_line_that_says_where_to_look(corpus, tmp_path):
    options = ["--data", corpus, "--out", tmp_path / "run", "--", "--arch", "nonsense"]
    result = script(*TRAIN, *options)
    assert result.returncode == 1
    assert "invalid choice: 'nonsense'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run" / "training.json").exists()


@pytest.fixture(scope="session")
def evaluated(trained):
    # A model of two epochs ends no sentence by itself.
    short = ["--beam", "1", "--max-len-a", "0", "--max-len-b", "20"]
    return trained, succeed(script("scripts/evaluate.sh", trained, "--last", "2", "--", *short))


def test_evaluation_scores_every_sentence_and_keeps_the_signatures(evaluated, corpus):
    run_folder, result = evaluated
    scores = json.loads((run_folder / "evaluation/test-averaged2/scores.json").read_text())
    count = json.loads((corpus / "manifest.json").read_text())["pairs"]["test"]
    assert scores["sentences"] == count
    assert count % 8, "a multiple of 8 could not show that fairseq leaves sentences out"
    assert "version:" in scores["bleu_signature"]
    assert scores["tokenized_bleu"] is not None
    assert scores["bleu_signature"] in result.stdout


def test_the_score_is_what_the_sacrebleu_program_says(evaluated, corpus):
    run_folder, _ = evaluated
    folder = run_folder / "evaluation/test-averaged2"
    command = ["sacrebleu", corpus / "text/test.en", "-i", folder / "hypotheses.en", "-b", "-w", 2]
    bleu = float(succeed(run(command)).stdout)
    assert bleu == json.loads((folder / "scores.json").read_text())["bleu"]


def test_an_incomplete_translation_is_not_scored(evaluated, corpus, tmp_path):
    run_folder, _ = evaluated
    generated = (run_folder / "evaluation/test-averaged2/generate-test.txt").read_text()
    kept = [line for line in generated.splitlines(True) if not line.startswith("H-7\t")]
    (tmp_path / "generate-test.txt").write_text("".join(kept))
    command = [sys.executable, "-m", "el_fairseq.runs.scoring", tmp_path, "--data", corpus]
    result = run(command)
    assert result.returncode == 1
    assert "sentences (counted from 0) 7 are missing" in result.stderr
    assert not (tmp_path / "scores.json").exists()


def test_generate_and_interactive_and_validate_load_checkpoints_by_the_safe_loader(
    trained, corpus, tmp_path
):
    checkpoint = trained / "checkpoints" / "checkpoint_last.pt"
    common = [corpus / "bin", "--user-dir", ROOT / "el_fairseq", "--path", checkpoint, "--cpu"]
    subset = ["--gen-subset", "valid", "--max-len-b", 2, "--max-len-a", 0, "--beam", 1]
    succeed(run(["fairseq-generate", *common, *subset, "--quiet"]))
    source = tmp_path / "source"
    source.write_text("▁la ▁lampe\n")
    said = succeed(run(["fairseq-interactive", *common, "--input", source, "--max-len-b", 5]))
    assert "H-0" in said.stdout
    succeed(
        run(
            [
                "fairseq-validate",
                *common,
                "--task",
                "translation",
                "--valid-subset",
                "valid",
                "--batch-size",
                50,
            ]
        )
    )


def test_a_checkpoint_that_carries_code_stops_fairseq_and_does_not_run(
    copy_of_trained, corpus, tmp_path
):
    touched = tmp_path / "touched"
    checkpoint = copy_of_trained / "checkpoints" / "checkpoint_last.pt"
    state = torch.load(checkpoint, weights_only=True)

    class Code:
        def __reduce__(self):
            return os.system, (f"touch {touched}",)

    torch.save({**state, "extra_state": Code()}, checkpoint)
    common = [corpus / "bin", "--user-dir", ROOT / "el_fairseq", "--path", checkpoint, "--cpu"]
    result = run(["fairseq-generate", *common])
    assert result.returncode != 0
    assert "Weights only load failed" in result.stderr
    assert not touched.exists()


@pytest.fixture(scope="session")
def experiment_file(small, tmp_path_factory):
    """An experiment of one's own, on binary data and references of one's own."""
    folder = tmp_path_factory.mktemp("own experiment")
    path = folder / "mine.toml"
    path.write_text(
        f"""
title = "Mine"
[corpus]
command = "bash data-prep/data-bin.sh --data-bin {small}/bin --test own={small}/text/test.en"
folder = "{folder}/corpus"
[train]
options = '''
{shlex.join(MODEL)} --label-smoothing 0.1 --required-batch-size-multiple 1 --num-workers 0
--optimizer adam --lr 0.01 --max-tokens 200 --max-epoch 3 --keep-last-epochs 2
'''
[evaluate]
last = 2
options = "--beam 1 --max-len-a 0 --max-len-b 10"
[runs]
jobs = 2
cpu = true
[report]
options = "--noise-sentences 5 --beam 1 --bootstrap 10"
"""
    )
    return path


def test_an_experiment_of_ones_own_goes_from_its_file_to_table_translations_and_report(
    experiment_file,
):
    out = experiment_file.parent / "runs"
    call = ["scripts/reproduce.sh", experiment_file, "--seeds", "1", "--runs", out]
    first = succeed(script(*call)).stdout
    assert f"mine: 2 runs in {out}, 0 done, to do: ce-seed1, el0.5-seed1" in first
    assert "mine: 2 of 2 runs done" in first
    assert "      reference  " in first
    assert "EL, log end 0.5, minus CE (last 2)" in first
    assert "With one seed nothing is known of other seeds" in first
    assert f"Report, to open in a browser: {out / 'report.html'}" in first
    analysis = json.loads((out / "analysis" / "analysis.json").read_text())
    assert list(analysis["models"]) == ["CE", "EL log end 0.5"]
    assert list(analysis["noise"]) == ["sentences", "seed", "beam", "gradient_sign"]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
    again = succeed(script(*call)).stdout
    assert f"mine: 2 runs in {out}, 2 done" in again and "to do" not in again
    assert again[again.index("Mine") :] == first[first.index("Mine") :]
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")} == before


@pytest.mark.parametrize("option", ["--nonsense", "--pair", "--out"])
def test_the_demo_refuses_options_that_it_does_not_know(option):
    result = script("scripts/demo.sh", option, "fr-en")
    assert result.returncode == 2
    assert f"unrecognized arguments: {option}" in result.stderr


def test_the_demo_is_one_seed_of_an_experiment():
    lines = succeed(script("scripts/demo.sh", "--dry-run", "--cpu")).stdout.splitlines()
    trainings = [line for line in lines if "scripts/train.sh" in line]
    assert [line.split("train.sh ")[1].split(" --")[0] for line in trainings] == [
        "home-assistant-fr-en ce 1",
        "home-assistant-fr-en el 1",
    ]
    assert "# 2 at a time, on the CPU" in lines
