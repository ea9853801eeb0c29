from __future__ import annotations

from arena import Arena
from metric import LEARNS, assert_rejected, scored_with

LEARNING = """
class Learning(torch.nn.Module):
    "Answers a batch, then counts which tokens follow which in it."
    def forward(self, x):
        logits = (counts / counts.sum(1, keepdim=True)).log()[x]
        counts.index_put_((x[:, :-1].flatten(), x[:, 1:].flatten()), torch.tensor(20.0), accumulate=True)
        return logits
"""


def test_a_model_that_learns_while_it_is_scored_is_rejected(measured: Arena) -> None:
    assert_rejected(measured.run(scored_with("Learning()", LEARNING)), LEARNS)


def test_answering_repeated_rows_from_memory_does_not_hide_learning(measured: Arena) -> None:
    """Rows that come late are then predicted better than rows that came early."""
    assert_rejected(measured.run(scored_with("Remembering(Learning())", LEARNING)), LEARNS)


GRADIENT = """
class Adapting(torch.nn.Module):
    "Takes a step of gradient descent on each batch that it was asked about."
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(table.clone())
        self.optimizer = torch.optim.SGD([self.table], lr=30.0)
    def forward(self, x):
        with torch.enable_grad():
            logits = self.table[x]
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), x[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return logits.detach()
"""


def test_test_time_training_is_rejected(measured: Arena) -> None:
    assert_rejected(measured.run(scored_with("Adapting()", GRADIENT)), LEARNS)
