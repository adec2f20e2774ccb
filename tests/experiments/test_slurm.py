import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import slurm


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


def test_a_job_is_written_submitted_and_its_number_kept(programs, tmp_path):
    programs(sbatch='[ "$1" = --parsable ] && [ -f "$2" ] && echo "17;cluster"', squeue="true")
    assert slurm.submit("#!/bin/sh\n", tmp_path / "slurm") == "17"
    assert (tmp_path / "slurm" / "job").read_text() == "17\n"
    assert (tmp_path / "slurm" / "job.sh").read_text() == "#!/bin/sh\n"


def test_a_job_that_left_the_queue_is_submitted_again(programs, tmp_path):
    programs(sbatch="echo 17", squeue="true")
    slurm.submit("", tmp_path / "slurm")
    programs(sbatch="echo 18")
    assert slurm.submit("", tmp_path / "slurm") == "18"


def test_what_sbatch_says_when_it_refuses_is_passed_on(programs, tmp_path):
    programs(sbatch="echo 'invalid partition' >&2; exit 1", squeue="true")
    with pytest.raises(UserError, match=r"refused .*job\.sh: invalid partition"):
        slurm.submit("", tmp_path / "slurm")
    assert not (tmp_path / "slurm" / "job").exists()


def test_a_machine_without_slurm_is_told_where_to_go(programs, tmp_path):
    programs(squeue="true")
    with pytest.raises(UserError, match=r"needs sbatch, .* login node"):
        slurm.submit("", tmp_path / "slurm")


def test_a_job_on_the_cpu_asks_for_no_gpu(tmp_path):
    assert "--gres" not in slurm.job_text("name", 4, 0, tmp_path, "true")
    assert "#SBATCH --gres=gpu:1\n" in slurm.job_text("name", 4, 1, tmp_path, "true")
