"""An experiment from its archive to the table, in small, whatever happens on the way."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import slurm_stand_in
import warm
from conftest import ROOT, run, script, succeed, warmed
from iwslt_archives import de_en, fr_en, serving, write_archive
from sizes import transformer, words_of

from el_fairseq.corpora.checksums import checksum
from el_fairseq.experiments import results

# A model that two cores train in seconds, and that has learnt enough to translate differently
# with each loss and seed.
TINY = [
    *("--share-decoder-input-output-embed", *words_of(transformer(32))),
    *("--lr", "0.02", "--warmup-updates", "10", "--dropout", "0.1"),
    *("--max-tokens", "500", "--update-freq", "1", "--max-epoch", "4"),
    *("--eval-bleu-args", '{"beam": 1, "max_len_a": 0, "max_len_b": 10}'),
]
NAMES = [f"{criterion}-seed{seed}" for seed in (1, 2) for criterion in ("ce", "el0.5")]


class Started:
    """A script that is running, and everything that it has started."""

    def __init__(self, name, *arguments):
        self.mark = f"EL_TEST={uuid.uuid4()}"
        self.process = subprocess.Popen(
            **warmed(["bash", ROOT / name, *arguments], dict([self.mark.split("=")])),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def wait_for(self, words):
        """Read on until the script prints ``words``."""
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return
        raise AssertionError(f"{words!r} was not said:\n{self.said}")

    def processes(self):
        """Ids of all processes with this script's environment, its own included."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def kill(self):
        """What a power cut does: SIGKILL for all at once."""
        killed = set()
        for _ in range(3):  # a process that is just being started can go unseen for a moment
            for number in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                killed.add(number)
            time.sleep(0.1)
        while any(map(holds_files, killed)):
            time.sleep(0.1)
        warm.wait_for_killed()
        self.close()

    def stop(self):
        """SIGTERM for the script alone, which is to end all that it started."""
        while len(self.processes()) < 3:  # what it has just said, it is about to start
            assert self.process.poll() is None
            time.sleep(0.01)
        self.process.terminate()
        self.process.stdout.read()
        while self.processes():
            time.sleep(0.1)
        self.close()

    def close(self):
        self.process.wait()
        self.process.stdout.close()


def holds_files(number):
    """Whether a process is still there and may hold locks; one that has ended does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


def contents(folder):
    """Files below a folder by name, without hidden ones and logs."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".log" and not path.name.startswith(".")
    }


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("archive") / "de-en.tgz", de_en(test_size=4))


@pytest.fixture(scope="session")
def data(archive, tmp_path_factory):
    """The corpus, made without disturbance."""
    out = tmp_path_factory.mktemp("data") / "iwslt14-de-en"
    succeed(script("data-prep/iwslt14-de-en.sh", "--archive", archive, "--out", out))
    return out


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    """The file of the experiment iwslt14-de-en, with a report that takes seconds."""
    path = tmp_path_factory.mktemp("experiment") / "iwslt14-de-en.toml"
    text = (ROOT / "scripts" / "experiments" / path.name).read_text(encoding="utf-8")
    report = '[report]\noptions = "--noise-sentences 5 --beam 1 --bootstrap 10"\n'
    path.write_text(f"{text}\n{report}", encoding="utf-8")
    return path


def arguments(experiment, data, runs, *more):
    return [
        *(experiment, "--data", data, "--runs", runs, "--seeds", "1,2", "--cpu"),
        *("--last", "2", *more, "--", *TINY),
    ]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    return slurm_stand_in.install(tmp_path_factory.mktemp("slurm") / "bin")


@pytest.fixture(scope="session")
def runs(experiment, data, slurm, tmp_path_factory):
    """All runs of the experiment by Slurm, one of them with a time limit; and the table."""
    folder = tmp_path_factory.mktemp("runs") / "two words"
    limit = Path(slurm["STAND_IN"], "limit-1")
    limit.write_text(str(folder / NAMES[1] / "checkpoints" / "checkpoint1.pt"))
    options = ["--slurm", "--sbatch", "--time=1:00", "--prologue", "echo prologue"]
    call = arguments(experiment, data, folder, *options)
    result = script("scripts/reproduce.sh", *call, env=slurm)
    assert "Submitted job 4711, and job 4711 for table and report" in succeed(result).stdout
    assert not limit.exists()
    return folder


def test_a_task_out_of_time_stops_and_goes_on_when_its_turn_comes_again(runs):
    log = (runs / "slurm" / "4711_1.log").read_text()
    assert log.count("prologue") == 2
    assert f"{NAMES[1]}: out of time, back into the queue" in log
    assert "Loaded checkpoint" in (runs / NAMES[1] / "train.log").read_text()


def test_a_run_on_two_machines_is_one_training(experiment, data, slurm, tmp_path):
    call = arguments(experiment, data, tmp_path, "--slurm", "--nodes", "2", "--criteria", "ce")
    call[call.index("1,2")] = "1"
    call[call.index("--last") + 1] = "0"
    result = script("scripts/reproduce.sh", *call, "--update-freq", "2", env=slurm)
    assert "Submitted job 4711" in succeed(result).stdout
    said = (tmp_path / "slurm" / "4711_0.log").read_text()
    assert (tmp_path / NAMES[0] / "training.json").exists(), said
    log = (tmp_path / NAMES[0] / "train.log").read_text()
    assert "--distributed-world-size 2" in log
    assert results.read(tmp_path)["runs"][0]["run"] == NAMES[0]


def test_the_sites_options_and_the_table_after_the_runs_are_asked_for(runs, slurm):
    first, second = Path(slurm["STAND_IN"], "asked").read_text().splitlines()[:2]
    assert first == shlex.join(["--parsable", "--time=1:00", str(runs / "slurm" / "runs.sh")])
    assert "--dependency=afterany:4711" in second and second.endswith("slurm/table.sh'")
    assert (runs / "table.md").exists() and (runs / "report.html").exists()


def test_a_corpus_is_the_same_however_often_it_was_killed_on_the_way(archive, data, tmp_path):
    content = archive.read_bytes()
    out = tmp_path / "corpus"
    with serving(content, "cut", 503, "whole") as (url, given):
        url = url.replace("talks.tgz", "de-en.tgz")
        call = ["--out", out, "--url", url, "--checksum", checksum(archive, "md5")]
        for stage in ("Downloading", "Kept", "Binarizing"):
            started = Started("data-prep/iwslt14-de-en.sh", *call)
            started.wait_for(stage)
            started.kill()
            assert not out.exists()
        succeed(script("data-prep/iwslt14-de-en.sh", *call))
        assert given[-1] == "whole" and given.count("whole") <= 2
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"corpus", "archives"}
    made, expected = contents(out), contents(data)
    for files in (made, expected):
        manifest = json.loads(files.pop("manifest.json"))
        manifest.pop("archive")
        files["manifest without archive"] = manifest
    assert made == expected


def test_fr_en_is_cased_and_shares_one_dictionary(tmp_path):
    archive = write_archive(tmp_path / "fr-en.zip", fr_en())
    out = tmp_path / "corpus"
    call = ["--archive", archive, "--out", out, "--pieces", "400"]
    succeed(script("data-prep/iwslt17-fr-en.sh", *call))
    dictionaries = [(out / "bin" / f"dict.{side}.txt").read_bytes() for side in ("fr", "en")]
    assert dictionaries[0] == dictionaries[1]
    assert "That was plan B ." in (out / "text" / "test.en").read_text(encoding="utf-8")
    assert (out / "bpe" / "test.en").read_text(encoding="utf-8").startswith("▁")
    assert json.loads((out / "manifest.json").read_text())["subwords"] == "sentencepiece"


def test_every_run_is_scored_with_both_models_and_all_sentences(runs, data):
    records = results.read(runs)["runs"]
    assert [record["run"] for record in records] == sorted(NAMES)
    count = len((data / "text" / "test.de").read_text(encoding="utf-8").split("\n")) - 1
    for record in records:
        for scores in record["scores"]["test"].values():
            assert scores["sentences"] == count
            assert {"tokenized_bleu", "bleu", "chrf", "ter", "ter_signature"} <= scores.keys()
    hypotheses = {
        (runs / name / "evaluation" / "test-averaged2" / "hypotheses.en").read_bytes()
        for name in NAMES
    }
    assert len(hypotheses) == len(NAMES)


def test_the_table_is_there_as_text_markdown_and_csv(experiment, runs):
    result = succeed(script("scripts/table.sh", experiment, "--runs", runs, "--last", "2"))
    for words in ("35.09 ± 0.07", "35.50 ± 0.11", "p over seeds", "95 % interval"):
        assert words in result.stdout
    assert "| EL, log end 0.5" in (runs / "table.md").read_text(encoding="utf-8")
    assert (runs / "table.csv").read_text(encoding="utf-8").startswith("loss,checkpoints,seeds")


def test_stopped_at_every_stage_it_ends_with_the_same_hypotheses_and_table(
    experiment, runs, data, tmp_path
):
    folder = tmp_path / "iwslt14-de-en"
    folder.mkdir()
    for name in NAMES[1:]:  # those were finished before; the first is about to begin
        shutil.copytree(runs / name, folder / name)
    call = ["scripts/reproduce.sh", *arguments(experiment, data, folder, "--jobs", "2")]
    checkpoints = folder / NAMES[0] / "checkpoints"

    # A disk that is full, as far as a limit on the size of files can play it.
    full = run(["bash", "-c", 'ulimit -f 20; exec bash "$@"', "bash", *call])
    assert full.returncode == 1
    assert "ce-seed1" in full.stderr and "run the same command again" in full.stderr
    assert not (folder / NAMES[0] / "training.json").exists()

    first = Started(*call)
    first.wait_for("epoch   1")
    second = script(*call)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1 and "is being worked on" in second.stderr
    first.wait_for("epoch   2")
    first.kill()
    whole = (checkpoints / "checkpoint1.pt").read_bytes()
    (checkpoints / "checkpoint_last.pt").write_bytes(whole[: len(whole) // 2])

    averaging = Started(*call)
    averaging.wait_for("Translating")
    averaging.kill()
    best = Started(*call)
    best.wait_for("fairseq's BLEU")
    best.wait_for("Translating")
    best.stop()
    assert best.process.returncode == 143
    result = succeed(script(*call))
    assert "EL, log end 0.5, minus CE" in result.stdout

    made, expected = (
        [{**one, "minutes": 0} for one in results.read(where)["runs"]] for where in (folder, runs)
    )
    assert made == expected
    for model in ("test-averaged2", "test-best"):
        path = Path("evaluation", model, "hypotheses.en")
        assert (folder / NAMES[0] / path).read_bytes() == (runs / NAMES[0] / path).read_bytes()
    for name in NAMES[1:]:
        logs = [(where / name / "train.log").read_bytes() for where in (folder, runs)]
        assert logs[0] == logs[1]


def test_what_is_finished_is_not_submitted_again(experiment, runs, data, slurm):
    asked = Path(slurm["STAND_IN"], "asked").read_text()
    call = ["scripts/reproduce.sh", *arguments(experiment, data, runs, "--slurm")]
    result = succeed(script(*call, env=slurm))
    assert "4 runs in" in result.stdout and "4 done" in result.stdout
    assert "Submitted" not in result.stdout and "minus CE" in result.stdout
    assert Path(slurm["STAND_IN"], "asked").read_text() == asked


def test_the_table_can_be_made_from_kept_results_alone(experiment, runs, tmp_path):
    kept = tmp_path / "kept"
    call = ["scripts/table.sh", experiment, "--runs"]
    succeed(script(*call, runs, "--last", "2", "--export", kept))
    made = (kept / "table.md").read_bytes()
    (kept / "table.md").unlink()
    assert succeed(script(*call, kept)).stdout.count("minus CE") == 1
    assert (kept / "table.md").read_bytes() == made == (runs / "table.md").read_bytes()
    assert sum(path.stat().st_size for path in kept.rglob("*") if path.is_file()) < 100_000


def test_the_table_of_another_experiment_is_refused(runs):
    result = script("scripts/table.sh", "iwslt17-fr-en", "--runs", runs)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "is a run of the experiment iwslt14-de-en, expected iwslt17-fr-en" in result.stderr


def test_an_array_job_that_is_still_in_the_queue_is_not_submitted_again(
    experiment, runs, data, slurm
):
    queue = Path(slurm["STAND_IN"], "queue")
    queue.write_text("4711 PENDING\n")
    call = [
        word if word != "1,2" else "1,2,3" for word in arguments(experiment, data, runs, "--slurm")
    ]
    result = script("scripts/reproduce.sh", *call, env=slurm)
    queue.unlink()
    assert result.returncode == 1
    assert "in the queue as job 4711" in result.stderr


def test_a_dry_run_makes_nothing_not_even_the_environment(tmp_path):
    # Also with a Python that has no torch.
    python = Path(sys.base_prefix, "bin", "python3")
    environment = {"EL_VENV": str(tmp_path / "venv"), "EL_PYTHON": str(python)}
    words = ["iwslt14-de-en", "--runs", tmp_path / "runs", "--slurm", "--dry-run"]
    result = succeed(script("scripts/reproduce.sh", *words, env=environment))
    assert "#SBATCH --array=0,1,2,3,4,5,6,7,8,9" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_nothing_says_what_to_run(tmp_path):
    result = script("scripts/table.sh", "iwslt17-fr-en", "--runs", tmp_path)
    assert result.returncode == 1
    assert "bash scripts/reproduce.sh iwslt17-fr-en" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "path",
    [
        "data-prep/iwslt14-de-en.sh",
        "data-prep/iwslt17-fr-en.sh",
        "scripts/reproduce.sh",
        "scripts/table.sh",
    ],
)
def test_every_script_has_help_and_names_a_wrong_argument(path):
    assert f"bash {path}" in succeed(script(path, "--help")).stdout
    experiment = ["iwslt14-de-en"] if path.startswith("scripts") else []
    wrong = script(path, *experiment, "--nonsense")
    assert wrong.returncode == 2 and "--nonsense" in wrong.stderr
