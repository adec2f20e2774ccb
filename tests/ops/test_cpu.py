"""The compiled kernel of the CPU: its threads, and where its machine code is kept."""

import errno
import multiprocessing
import os
import random
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from formula import random_case
from old_torch import tells_of_passes

from el_fairseq import encouraging_loss
from el_fairseq.ops import cpu
from el_fairseq.ops.reference import Spec

SPEC = Spec(label_smoothing=0.1)
count = cpu._compiled.__wrapped__  # not the one that this process has compiled already


def result(logits, target):
    logits = logits.detach().requires_grad_()
    loss = encouraging_loss(logits, target, label_smoothing=0.1, reduction="sum")
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


@pytest.fixture(params=["PyTorch's", "its own"])
def three_threads(request, monkeypatch):
    if request.param == "its own":
        monkeypatch.setattr(cpu, "_parallel", None)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_rows_shared_among_threads_give_the_same_bits(three_threads, monkeypatch):
    logits, target = random_case(300, 3000, torch.float32)  # 2**18 logits and more are shared
    threads, row_losses = set(), cpu._compiled(cpu._rows, torch.float32)

    def watched(*arguments):
        threads.add(threading.get_ident())
        row_losses(*arguments)
        time.sleep(0.01)

    monkeypatch.setattr(cpu, "_compiled", lambda *_: watched)
    results = cpu.row_losses(logits, target, SPEC, torch.ones(300))
    assert len(threads) > 1
    monkeypatch.undo()
    torch.set_num_threads(1)
    alone = cpu.row_losses(logits, target, SPEC, torch.ones(300))
    assert all(map(torch.equal, results, alone))


def test_small_rows_have_the_same_bits_wherever_they_lie_in_memory():
    case, draw, others, gradients = random_case(23, 16, torch.float32), random.Random(1), [], set()
    for _ in range(10_000):
        others += [torch.empty(draw.randrange(4000)), bytearray(draw.randrange(9000))]
        del others[:-200]
        gradient = case[0].detach().clone()
        cpu.row_losses(gradient, case[1], SPEC, torch.ones(23), gradient)
        gradients.add(gradient.numpy().tobytes())
    assert len(gradients) == 1


def test_an_interrupt_of_a_thread_is_no_result(three_threads):
    def interrupted(first, last):
        if first:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cpu._share(interrupted, 300, 3000)


def test_several_threads_may_compute_losses_at_once(three_threads):
    logits, target = random_case(300, 3000, torch.float32)
    expected = result(logits, target)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: result(logits, target), range(50)))
    assert all(all(map(torch.equal, each, expected)) for each in results)


@tells_of_passes  # otherwise PyTorch itself multiplies the gradient, and hangs in a forked process
def test_a_forked_process_computes_with_threads_of_its_own(three_threads):
    logits, target = random_case(300, 3000, torch.float32)
    expected = result(logits, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Python warns of threads and fork
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()
        child = context.Process(
            target=lambda: answers.put([x.numpy() for x in result(logits, target)])
        )
        child.start()
    answer = [torch.from_numpy(x) for x in answers.get()]
    child.join(60)
    assert child.exitcode == 0
    assert all(map(torch.equal, answer, expected))


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
