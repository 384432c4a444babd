import pytest
import torch
from torch import nn

from prunepeft_ray.training import SoloGroup
from prunepeft_ray.training.gradients import GradientBuffer


class FakeRank:
    """A process of two whose partner has filled its rows already."""

    def __init__(self, partner):
        self.rank, self.world, self.partner = 0, 2, partner

    def sum_(self, tensor):
        tensor += self.partner

    def gather(self, item):
        return [item, item]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


INPUTS = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def fill(buffer, network, number):
    """Run micro-batch ``number`` of four; its further values are its loss and number."""
    buffer.begin(number)
    loss = network(INPUTS[2 * number : 2 * number + 2]).square().sum()
    loss.backward()
    buffer.put(number, torch.stack([loss.detach(), torch.tensor(float(number))]))


def gradients(network):
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(network):
    loss = network(INPUTS).square().sum()
    loss.backward()
    whole = gradients(network).clone()
    buffer = GradientBuffer(list(network.parameters()), 2, 4)
    for number in range(4):
        fill(buffer, network, number)
    extra = buffer.total(SoloGroup())
    torch.testing.assert_close(gradients(network), whole)
    torch.testing.assert_close(extra, torch.tensor([loss.item(), 6.0]))
    assert torch.equal(buffer.gradient, gradients(network))


def test_gradients_lie_in_the_buffer_itself(network):
    buffer = GradientBuffer(list(network.parameters()), 2, 4)
    buffer.begin(3)
    before = [p.grad.data_ptr() for p in network.parameters()]
    fill(buffer, network, 3)
    assert [p.grad.data_ptr() for p in network.parameters()] == before
    once = gradients(network).clone()
    network(INPUTS[6:8]).square().sum().backward()
    torch.testing.assert_close(gradients(network), 2 * once)
    buffer.total(SoloGroup())
    buffer.gradient.fill_(5.0)
    assert bool((gradients(network) == 5.0).all())


def test_a_new_batch_starts_at_zero(network):
    buffer = GradientBuffer(list(network.parameters()), 2, 4)
    found = []
    for others in ((), (0, 2, 3), ()):
        buffer.clear()
        for number in (1, *others):
            fill(buffer, network, number)
        found.append((buffer.total(SoloGroup()).tolist(), gradients(network).tolist()))
    assert found[0] == found[2] != found[1]


def test_two_processes_get_the_bits_of_one(network):
    def rows(numbers):
        buffer = GradientBuffer(list(network.parameters()), 2, 4)
        for number in numbers:
            fill(buffer, network, number)
        return buffer

    alone = rows(range(4))
    extra = alone.total(SoloGroup()).clone()
    expected = gradients(network).clone()
    # in the other order the sum would have other bits
    for mine, partners in (((0, 2), (1, 3)), ((3, 1), (2, 0)), ((), (3, 2, 1, 0))):
        partner = rows(partners)._rows.clone()
        shared = rows(mine)
        assert torch.equal(shared.total(FakeRank(partner)), extra)
        assert torch.equal(gradients(network), expected)
