# SPDX-License-Identifier: MPL-2.0
"""Muon's directions, and averages of weights."""

import unittest

import torch

import export
import optim
import runs


class Optim(unittest.TestCase):
    def test_each_matrix_of_a_stack_is_orthogonalised_for_itself(self):
        generator = torch.Generator().manual_seed(1)
        for shape in ((3, 16, 40), (3, 40, 16), (2, 8, 4, 3, 3)):
            updates = torch.randn(shape, generator=generator) * torch.tensor([1e-3, 1.0, 50.0])[: shape[0]].view(-1, *[1] * (len(shape) - 1))
            together = optim.orthogonalise(updates)
            self.assertEqual(together.shape, updates.shape)
            for one, alone in zip(together, updates):
                values = torch.linalg.svdvals(one.flatten(1))
                self.assertGreater(values.min().item(), 0.5)
                self.assertLess(values.max().item(), 1.3)
                torch.testing.assert_close(one, optim.orthogonalise(alone[None])[0], rtol=0, atol=2e-2)

    def test_a_step_goes_down(self):
        wanted = torch.eye(6)
        weights = [torch.nn.Parameter(torch.zeros(6, 6)) for _ in range(2)]
        muon = optim.Muon(weights, 0.05)
        far = lambda: sum((w - wanted).square().sum().item() for w in weights)
        before = far()
        for _ in range(10):
            muon.zero_grad()
            sum((w - wanted).square().sum() for w in weights).backward()
            muon.step()
        self.assertLess(far(), 0.5 * before)

    def test_averages(self):
        states = [{"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 6.0])}]
        self.assertEqual(export.soup(states)["a"].tolist(), [2, 4])
        net = torch.nn.Linear(1, 1, bias=False)
        net.weight.data.fill_(1.0)
        average = {"weight": torch.zeros(1, 1)}
        runs.blend(average, net, 10**6, 0.75)
        self.assertEqual(average["weight"].item(), 0.25)


if __name__ == "__main__":
    unittest.main()
