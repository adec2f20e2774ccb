"""The smaller kernels for GPUs, run by Triton's interpreter (test_kernels.py has that of rows)."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: its wheels are for Linux on x86-64")

from el_fairseq.ops import gpu


@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_targets_are_counted_and_checked_without_waiting(ignore_index):
    target = torch.tensor([3, 1, 2, ignore_index] * 700)[::2]
    count = (target != ignore_index).sum()
    assert gpu.count(target, 4, ignore_index).item() == count
    assert gpu.count(torch.full((3,), ignore_index), 4, ignore_index).item() == 1
    for wrong in (-1, 4):
        with pytest.raises(RuntimeError):
            gpu.count(torch.cat([target, torch.tensor([wrong])]), 4, ignore_index)


def test_values_are_multiplied_in_place(monkeypatch):
    monkeypatch.setattr(gpu, "PROGRAMS", 2)
    values = torch.randn(5, 4099).half()
    expected = (values.float() * 0.3).half()
    assert gpu.multiply(values, torch.tensor(1.0)) is values
    gpu.multiply(values, torch.tensor(0.3))
    torch.testing.assert_close(values, expected, rtol=0, atol=0)


def test_a_program_is_as_wide_as_a_row_that_can_be_held_in_registers():
    assert gpu.lanes_of(2) == 16
    assert gpu.lanes_of(1000) == 1024
    assert gpu.lanes_of(8192) == 8192
    assert gpu.lanes_of(8193) == gpu.lanes_of(256_000) == 2048
