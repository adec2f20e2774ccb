"""The compiled kernel of the CPU: its numbers, its threads, and where its machine code is kept."""

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from correctness import check_correctness

from el_fairseq import encouraging_loss
from el_fairseq.ops import cpu, formula, rows

count = cpu._compiled.__wrapped__  # not the one that this process has compiled already


def case(classes=50, count=40):
    """Logits and targets; several threads share them from 2**18 logits on."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=generator)
    return logits, torch.randint(classes, (count,), generator=generator)


def loss_and_gradient(logits, target):
    logits = logits.detach().requires_grad_()
    loss = encouraging_loss(logits, target, label_smoothing=0.1, reduction="sum")
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kernel", [rows, formula])
def test_a_row_is_correct_where_the_targets_logit_is_the_argmax(kernel, dtype):
    check_correctness(kernel, dtype)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


LARGE = 3000, 300


def test_rows_shared_among_threads_give_the_same_bits(three_threads):
    logits, target = case(*LARGE)
    shared = loss_and_gradient(logits, target)
    torch.set_num_threads(1)
    assert all(map(torch.equal, shared, loss_and_gradient(logits, target)))


def test_several_threads_may_compute_losses_at_once(three_threads):
    logits, target = case(*LARGE)
    expected = loss_and_gradient(logits, target)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: loss_and_gradient(logits, target), range(50)))
    assert all(all(map(torch.equal, result, expected)) for result in results)
    helping = [each for each in threading.enumerate() if "encouraging-loss" in each.name]
    assert 0 < len(helping) <= 2


def test_a_forked_process_computes_with_threads_of_its_own(three_threads):
    logits, target = case(*LARGE)
    expected = loss_and_gradient(logits, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Python warns of threads and fork
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()
        child = context.Process(
            target=lambda: answers.put([x.numpy() for x in loss_and_gradient(logits, target)])
        )
        child.start()
    answer = [torch.from_numpy(x) for x in answers.get()]
    child.join(60)
    assert child.exitcode == 0
    assert all(map(torch.equal, answer, expected))


def test_a_data_loaders_worker_computes_losses(three_threads):
    logits, target = case(*LARGE)
    expected = loss_and_gradient(logits, target)

    class Losses(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            torch.set_num_threads(3)  # data loaders set one
            return loss_and_gradient(logits, target)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Python warns of threads and fork
        loader = torch.utils.data.DataLoader(Losses(), None, num_workers=1, timeout=60)
        (results,) = list(loader)
    assert all(map(torch.equal, results, expected))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "el_fairseq"


def runs(function):
    target = np.array([1, -1, 4])
    return function(target, 5, -1) == 2 and function(target, 4, -1) == -1


def files(cache):
    return sorted(path.name for path in cache.rglob("*.nb?"))


def test_machine_code_is_kept_on_disk_apart_for_each_processor_and_version(cache, monkeypatch):
    assert runs(count(cpu._count))
    assert len(files(cache)) == 2  # index and code
    kept = count(cpu._count)
    assert runs(kept)
    assert sum(kept.stats.cache_hits.values()) == 1
    monkeypatch.setattr(cpu.binding, "get_host_cpu_name", lambda: "another")
    assert runs(count(cpu._count))
    assert len(files(cache)) == 4
    monkeypatch.setattr(cpu, "FLOOR", 2e-5)
    assert runs(count(cpu._count))
    assert len(files(cache)) == 6
    assert numba.config.CACHE_DIR == ""
    assert not list(Path(cpu.__file__).parent.rglob("*.nb?"))


def test_numbas_own_choice_of_a_folder_comes_first(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    assert runs(count(cpu._count))
    assert len(files(tmp_path / "numba")) == 2
    assert not cache.exists()


@pytest.mark.parametrize("fault", ["nowhere to write", "no home", "a full disk", "damaged"])
def test_without_a_cache_the_code_is_compiled_again_quietly(cache, monkeypatch, fault):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fault == "nowhere to write":
        cache.write_text("no folder")
    elif fault == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    elif fault == "a full disk":
        monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)
    else:
        count(cpu._count)
        for path in cache.rglob("*.nb?"):
            path.write_bytes(path.read_bytes()[:50])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runs(count(cpu._count))
    assert not list(Path(cpu.__file__).parent.rglob("*.nb?"))


def test_processes_may_compile_at_the_same_time(cache):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = multiprocessing.get_context("fork")
        children = [
            context.Process(target=lambda: sys.exit(not runs(count(cpu._count)))) for _ in range(2)
        ]
        for child in children:
            child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert len(files(cache)) == 2
    assert runs(count(cpu._count))


@pytest.fixture
def chosen_anew():
    def forget():
        rows._kernel.cache_clear()
        rows._warn_once.cache_clear()

    forget()
    yield
    forget()


def fail(*_, **__):
    raise NotImplementedError("a fault")


@pytest.mark.parametrize("fault", ["import", "first use", "first count"])
def test_where_the_kernel_fails_the_formula_serves_and_says_once_that_it_is_slower(
    monkeypatch, chosen_anew, fault
):
    logits, target = case()
    expected = loss_and_gradient(logits, target)
    rows._kernel.cache_clear()
    if fault == "import":
        monkeypatch.setitem(sys.modules, "el_fairseq.ops.cpu", None)
    else:
        monkeypatch.setattr(cpu, "count" if fault == "first count" else "_share", fail)
    with pytest.warns(UserWarning, match="slower than it could be on cpu") as caught:
        torch.testing.assert_close(loss_and_gradient(logits, target), expected)
        loss_and_gradient(logits, target)
        loss_and_gradient(logits.double(), target)
    assert len(caught) == 1
    with pytest.raises(ValueError, match="expected 0 to 49"):
        encouraging_loss(logits, target + 50)


def test_the_formula_serves_where_numba_is_told_not_to_compile():
    code = (
        "import torch, el_fairseq\n"
        "x = torch.zeros(1, 4, requires_grad=True)\n"
        "loss = el_fairseq.encouraging_loss(x, torch.tensor([1]))\n"
        "loss.backward(); print(loss.item())\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert float(result.stdout) == pytest.approx(1.0986, abs=1e-4)
    assert result.stderr.count("slower than it could be on cpu") == 1
