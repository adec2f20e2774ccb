import shlex

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import reproduce, slurm
from el_fairseq.experiments.plan import Plan


def jobs(folder, *arguments, train_options=(), prologue=None):
    words = ["iwslt14-de-en", "--runs", str(folder), "--slurm", *arguments]
    options = reproduce.parser().parse_args(words)
    plan = Plan(options, list(train_options))
    return slurm.jobs_of(plan, words, list(train_options), prologue)


def directives(job):
    lines = [line for line in job.splitlines() if line.startswith("#SBATCH ")]
    return [word for line in lines for word in shlex.split(line)[1:]]


def test_a_task_for_each_run_stops_before_the_limit_and_goes_back_into_the_queue(tmp_path):
    runs, _ = jobs(tmp_path, "--gpus-per-run", "2", train_options=["--dropout", "0"])
    found = directives(runs)
    for option in (
        *("--job-name=iwslt14-de-en", "--array=0,1,2,3,4,5,6,7,8,9"),
        *("--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=4", "--gres=gpu:2"),
        *("--requeue", "--signal=B:USR1@600", "--open-mode=append"),
    ):
        assert option in found
    last = runs.splitlines()[-1]
    assert last.startswith("exec bash ") and "--slurm" not in last
    assert last.endswith(' --task "$SLURM_ARRAY_TASK_ID" -- --dropout 0')


def test_time_memory_and_partition_are_left_to_the_site(tmp_path):
    for job in jobs(tmp_path):
        for word in ("--time", "--mem", "--partition", "--account"):
            assert not any(option.startswith(word) for option in directives(job))


def test_a_limit_of_tasks_at_a_time_comes_from_jobs_or_gpus(tmp_path):
    assert "--array=0,1%1" in directives(jobs(tmp_path, "--seeds", "1", "--jobs", "1")[0])
    two_at_a_time = ["--seeds", "1", "--gpus", "9", "--gpus-per-run", "2", "--nodes", "2"]
    assert "--array=0,1%2" in directives(jobs(tmp_path, *two_at_a_time)[0])


def test_finished_runs_are_not_submitted_again(tmp_path):
    for kind in ("averaged10", "best"):
        evaluation = tmp_path / "el0.5-seed1" / "evaluation" / f"test-{kind}"
        evaluation.mkdir(parents=True)
        (evaluation / "scores.json").write_text("{}")
    (tmp_path / "el0.5-seed1" / "training.json").write_text("{}")
    assert "--array=0,2,3" in directives(jobs(tmp_path, "--seeds", "1,2")[0])
    only = ["--seeds", "1", "--criteria", "el"]
    assert jobs(tmp_path, *only)[0] is None


def test_the_log_is_found_in_a_folder_with_spaces(tmp_path):
    for job in jobs(tmp_path / "two words"):
        outputs = [option for option in directives(job) if option.startswith("--output=")]
        assert outputs[0].startswith(f"--output={tmp_path}/two words/slurm/")


def test_a_job_on_the_cpu_asks_for_no_gpu(tmp_path):
    for job in jobs(tmp_path, "--cpu"):
        assert "--gres" not in job


def test_a_run_on_several_machines_shares_the_batch_among_all_gpus(tmp_path):
    words = ["iwslt14-de-en", "--runs", str(tmp_path), "--task", "0"]
    options = reproduce.parser().parse_args([*words, "--nodes", "2", "--gpus-per-run", "2"])
    plan = Plan(options, [])
    assert plan.train_command(plan.runs[0])[-2:] == ["--update-freq", "1"]
    step = slurm.step(2, 2)
    assert step[:4] == ["srun", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=4"]
    assert "--kill-on-bad-exit=1" in step, "a process that dies takes the others with it"


def test_the_prologue_stands_before_the_command_of_both_jobs(tmp_path):
    for job in jobs(tmp_path, prologue="module load cuda"):
        lines = job.splitlines()
        assert lines.index("module load cuda") == lines.index("set -e") + 1


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes stand-ins for Slurm's programs, from shell code, the only ones that are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**codes):
        for name, code in codes.items():
            (folder / name).write_text(f"#!/bin/sh\n{code}\n")
            (folder / name).chmod(0o755)

    return make


def test_table_and_report_are_submitted_to_follow_the_runs(programs, tmp_path):
    programs(
        sbatch=f'echo "$@" >>{tmp_path}/asked; case "$*" in *dependency*) echo 18 ;; '
        '*) echo "17;cluster" ;; esac',
        squeue="true",
    )
    folder = tmp_path / "slurm"
    assert slurm.submit("first", "second", folder, ["--time=1:00:00", "-p x"]) == ("17", "18")
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first == f"--parsable --time=1:00:00 -p x {folder}/runs.sh"
    assert second == f"--parsable --time=1:00:00 -p x --dependency=afterany:17 {folder}/table.sh"
    assert (folder / "job").read_text() == "17\n"
    assert (folder / "runs.sh").read_text() == "first"


def test_a_job_is_submitted_again_only_when_it_left_the_queue(programs, tmp_path):
    programs(sbatch="echo 17", squeue="true")
    slurm.submit("", "", tmp_path / "slurm", [])
    programs(squeue="echo 17 PENDING")
    with pytest.raises(UserError, match="in the queue as job 17: wait for it, or scancel it"):
        slurm.submit("", "", tmp_path / "slurm", [])
    programs(sbatch="echo 18", squeue="true")
    assert slurm.submit("", "", tmp_path / "slurm", [])[0] == "18"


def test_what_sbatch_says_when_it_refuses_is_passed_on(programs, tmp_path):
    programs(sbatch="echo 'invalid partition' >&2; exit 1", squeue="true")
    with pytest.raises(UserError, match=r"refused .*runs\.sh: invalid partition"):
        slurm.submit("", "", tmp_path / "slurm", [])
    assert not (tmp_path / "slurm" / "job").exists()


def test_a_machine_without_slurm_is_told_where_to_go(programs, tmp_path):
    programs(squeue="true")
    with pytest.raises(UserError, match=r"needs sbatch, .* login node"):
        slurm.submit("", "", tmp_path / "slurm", [])


def test_a_task_that_cannot_be_requeued_says_what_to_do(programs, monkeypatch):
    programs(scontrol="echo 'not permitted' >&2; exit 1")
    monkeypatch.setenv("SLURM_JOB_ID", "21")
    with pytest.raises(UserError, match=r"requeue job 21 \(not permitted\): submit"):
        slurm.requeue()
