import torch

from el_fairseq.ops.memory import matrix_for_gradient

CPU = torch.device("cpu")


def test_memory_is_used_again_once_nobody_holds_it():
    first = matrix_for_gradient(10, 20, torch.float32, CPU)
    place = first.data_ptr()
    del first
    assert matrix_for_gradient(9, 20, torch.float32, CPU).data_ptr() == place


def test_memory_that_any_tensor_still_lies_in_is_left_alone():
    first = matrix_for_gradient(10, 20, torch.float32, CPU)
    view = first.fill_(1)[3]
    del first
    matrix_for_gradient(10, 20, torch.float32, CPU).fill_(2)
    assert view.tolist() == [1.0] * 20


def test_memory_far_too_large_is_given_back():
    first = matrix_for_gradient(100, 20, torch.float32, CPU)
    del first
    assert matrix_for_gradient(2, 20, torch.float32, CPU).untyped_storage().nbytes() == 2 * 20 * 4


def test_gradients_of_two_calls_do_not_share_memory():
    from el_fairseq import encouraging_loss

    target = torch.tensor([1, 2])
    one, two = (torch.randn(2, 5, requires_grad=True) for _ in range(2))
    encouraging_loss(one, target).backward()
    before = one.grad.clone()
    encouraging_loss(two, target).backward()
    assert torch.equal(one.grad, before)
