import pytest
import torch

from el_fairseq.common import processes
from el_fairseq.common.cli import UserError
from el_fairseq.experiments import run


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch sees so many GPUs."""

    def see(count, visible=""):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return see


@pytest.fixture
def dry_run(call, capsys, tmp_path):
    """Lines that ``reproduce.sh iwslt14-de-en --dry-run`` prints with more arguments."""

    def lines(*arguments, experiment="iwslt14-de-en"):
        words = [experiment, "--runs", tmp_path / "runs", "--dry-run", "--data", tmp_path / "none"]
        call(run.main, *words, *arguments)
        assert not (tmp_path / "runs").exists()
        return capsys.readouterr().out.splitlines()

    return lines


def trainings(lines):
    return [line for line in lines if "scripts/train.sh" in line]


def test_each_seed_is_run_with_every_loss_before_the_next(dry_run, gpus):
    gpus(1)
    lines = trainings(dry_run("--seeds", "2,1,2", "--losses", "ce,EL,CE"))
    assert [line.split("/")[-1] for line in lines] == [
        *("ce-seed2", "el-seed2", "ce-seed1", "el-seed1"),
    ]
    assert len(trainings(dry_run("--seeds", "3", "--losses", "el"))) == 1


def test_a_dry_run_prints_what_will_be_run_fairseqs_own_command_included(dry_run, gpus, small):
    gpus(0)
    words = ["--seeds", "1", "--data", small, "--gpus", "4", "--gpus-per-run", "2"]
    lines = dry_run(*words, "--", "--dropout", "0")
    assert lines[1] == f"bash data-prep/iwslt14-de-en.sh --out {small}"
    assert lines[2] == "# 2 at a time, with CUDA_VISIBLE_DEVICES=0,1 | 2,3"
    assert trainings(lines)[0].endswith(" --gpus-per-run 2 -- --dropout 0")
    worker = next(line for line in lines if "experiments.worker" in line)
    for words in (
        "--source-lang de --target-lang en",
        "--fp16 --distributed-world-size 2 --load-checkpoint-on-all-dp-ranks",
        "--criterion label_smoothed_cross_entropy --dropout 0 --report-accuracy --update-freq 2",
    ):
        assert words in worker
    assert sum("evaluate.sh" in line and "--last 10" in line for line in lines) == 2
    assert sum("evaluate.sh" in line and "--best" in line for line in lines) == 2


def test_runs_side_by_side_on_gpus_have_one_each(dry_run, gpus):
    gpus(3, "2,5,7")
    assert dry_run()[2] == "# 3 at a time, with CUDA_VISIBLE_DEVICES=2 | 5 | 7"
    assert dry_run("--gpus", "2")[2] == "# 2 at a time, with CUDA_VISIBLE_DEVICES=2 | 5"
    assert dry_run("--cpu")[2] == "# 1 at a time, on the CPU"
    gpus(0)
    assert dry_run(experiment="home-assistant-fr-en")[2] == "# 2 at a time, on the CPU"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--gpus-per-run", "2"], "--gpus-per-run is 2, expected at most 1, the GPUs"),
        (["--cpu", "--gpus-per-run", "2"], "a CPU trains in one process"),
        (["--last", "11"], "11 epoch checkpoints are to be averaged, but --keep-last-epochs leav"),
        (["--losses", "ce,xx"], "there is no loss xx in iwslt14-de-en: name one of CE, EL"),
        (["--runs", "12:30"], "fairseq cannot be given "),
        (["--runs", "\udcff"], "\\udcff': it takes UTF-8, and ':' and ','"),
        (["--", "--seed", "7"], "--seed in the options after -- is refused"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(dry_run, gpus, arguments, reason):
    gpus(1)
    with pytest.raises(UserError) as caught:
        dry_run(*arguments)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--seeds", "one"], "'one', expected a whole number from 0 to 4294967295"),
        (["--seeds=-1"], "'-1', expected a whole number"),
        (["--gpus", "0"], "'0', expected a whole number from 1"),
        (["--slurm"], "unrecognized"),
    ],
)
def test_a_wrong_argument_is_named(dry_run, capsys, arguments, reason):
    with pytest.raises(SystemExit) as caught:
        dry_run(*arguments)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_what_is_meant_for_a_gpu_does_not_start_without_one(call, gpus, tmp_path):
    gpus(0)
    for more, reason in (([], "no GPU here, and the 10 .* add --cpu"), (["--gpus", "2"], "most 0")):
        with pytest.raises(UserError, match=reason):
            call(run.main, "iwslt14-de-en", "--runs", tmp_path / "runs", *more)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def plan(tmp_path, small):
    words = ["home-assistant-fr-en", "--runs", str(tmp_path), "--seeds", "1,2", "--cpu"]
    options = [*words, "--data", str(small)]
    return run.Plan(run.parser().parse_args(options), [])


def test_a_run_that_fails_is_told_and_the_others_are_brought_to_their_end(plan, monkeypatch):
    done = []

    def train_and_score(a_run, progress):
        if a_run.name == "el-seed1":
            raise UserError("a full disk")
        done.append(a_run.name)

    monkeypatch.setattr(run, "train_and_score", train_and_score)
    with pytest.raises(UserError, match=r"1 of 4 runs failed.*\nel-seed1: a full disk"):
        run.execute(plan)
    assert sorted(done) == ["ce-seed1", "ce-seed2", "el-seed2"]


def test_once_the_program_is_being_stopped_no_other_run_is_begun(plan, monkeypatch):
    begun = []

    def train_and_score(a_run, progress):
        begun.append(a_run.name)
        raise SystemExit(processes.STOPPED)

    monkeypatch.setattr(run, "train_and_score", train_and_score)
    plan.slots = plan.slots[:1]
    with pytest.raises(SystemExit):
        run.execute(plan)
    assert begun == ["ce-seed1"]


def test_a_task_is_one_run_of_the_plan_and_refused_where_there_is_none(dry_run, gpus):
    gpus(1)
    lines = trainings(dry_run("--seeds", "1,2", "--task", "3"))
    assert [line.split("/")[-1] for line in lines] == ["el-seed2"]
    with pytest.raises(UserError, match="--task is 4, expected 0 to 3"):
        dry_run("--seeds", "1,2", "--task", "4")
