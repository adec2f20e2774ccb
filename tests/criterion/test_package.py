"""What importing the package does, in a Python of its own each time."""

import multiprocessing
import re
import sys
from argparse import Namespace

from conftest import ROOT, run, succeed
from fairseq import utils


def test_in_a_program_that_imports_fairseq_later_the_criterion_is_there_when_it_is_asked_for():
    registered = "'encouraging_loss' in fairseq.criterions.CRITERION_REGISTRY"
    code = (
        "import el_fairseq, fairseq.criterions\n"
        f"print({registered})\n"
        "el_fairseq.EncouragingLossCriterion\n"
        f"print({registered})\n"
    )
    assert succeed(run([sys.executable, "-c", code])).stdout.split() == ["False", "True"]


def test_the_documented_user_dir_registers_the_criterion_in_workers_and_other_folders(
    tmp_path, monkeypatch
):
    page = (ROOT / "README.md").read_text()
    (option,) = re.findall(r"`(--user-dir \"\$.+)`", page)
    _, user_dir = succeed(run(["bash", "-c", f"echo {option}"], cwd=tmp_path)).stdout.split()
    monkeypatch.chdir(tmp_path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(utils.import_user_module, [Namespace(user_dir=user_dir)])
        criterions = "__import__('fairseq').criterions.CRITERION_REGISTRY"
        assert pool.apply(eval, [f"'encouraging_loss' in {criterions}"])
