"""A window on the pool: some candidates, all up to date, on which picks cost only a partial Cholesky step.

With v_j = P g_j sqrt(alpha / (1 + alpha g_j^T P g_j)) for each pick j, the quadratic form of candidate i falls by
(g_i . v_j)^2, and g_i . v_j follows from inner products taken once, when the window was opened, and from the earlier
picks. The sum of the chosen gradients, which the conflict needs, is carried along in the same way.
"""

from __future__ import annotations

import math

import torch

from spice_select.conflict import conflict
from spice_select.fisher import FisherLogDet

CANCELLED = 1e3
"""When the sum of the chosen gradients has shrunk by this factor, its products are computed anew."""


ABSORBED_TOGETHER = 256
"""Given gradients whose inner products are taken together; does not affect results."""


class Window:
    """Candidates whose gains and conflicts are current. Products run on the gradients' device, the rest on the CPU.

    Args:
        gradients: Their gradients, float64 of shape (m, d).
        squared_norms: |g|^2, float64 of shape (m,) on the CPU.
        forms: g^T P g now, float64 of shape (m,) on the CPU; None computes them.
        fisher: P.
        total: Sum of the chosen gradients, float64 of shape (d,); brought up to date in place.
        capacity: Most picks before the window must be closed.

    Attributes:
        forms: g^T P g now, float64 of shape (m,) on the CPU.
        picked: Picks made in this window.
        column_of: For each candidate the column that holds its products with the window, or -1.
    """

    def __init__(
        self,
        gradients: torch.Tensor,
        squared_norms: torch.Tensor,
        forms: torch.Tensor | None,
        fisher: FisherLogDet,
        total: torch.Tensor,
        capacity: int,
    ) -> None:
        self._gradients, self._norms, self._fisher, self._total = gradients, squared_norms, fisher, total
        m = len(gradients)
        self.forms = forms if forms is not None else (gradients * fisher.project(gradients)).sum(dim=1).cpu()
        self.picked = 0
        self.column_of = torch.full((m,), -1, dtype=torch.int64)
        self._products = (gradients @ total).cpu()
        self._path = float(total.norm())
        self._inner = torch.empty(m, 0, dtype=torch.float64)
        self._plain = torch.empty(m, 0, dtype=torch.float64)
        self._projected = gradients[:0]
        self._steps = torch.empty(m, capacity, dtype=torch.float64)
        self._places = torch.empty(capacity, dtype=torch.int64)
        self._scales = torch.empty(capacity, dtype=torch.float64)
        self._picked_forms = torch.empty(capacity, dtype=torch.float64)

    @property
    def is_full(self) -> bool:
        """True when no further pick can be made before closing."""
        return self.picked == len(self._places)

    def gains(self) -> torch.Tensor:
        """Marginal gains, nats, float64 of shape (m,)."""
        return torch.log1p(self._fisher.alpha * self.forms)

    def conflicts(self) -> torch.Tensor:
        """Conflicts with the mean of the chosen gradients, in [0, 1], float64 of shape (m,)."""
        count = self._fisher.count + self.picked
        if count == 0:
            return torch.zeros_like(self.forms)
        norm = float(self._total.norm())
        if self._path > CANCELLED * norm:
            self._products = (self._gradients @ self._total).cpu()
            self._path = norm
        return conflict(self._products / count, self._norms, norm / count)

    def add_columns(self, places: torch.Tensor) -> None:
        """Take the window's inner products with some of its candidates, which makes them ready to be picked.

        Args:
            places: Places of candidates that have none yet, int64 of shape (c,).
        """
        gradients = self._gradients[places.to(self._gradients.device)]
        projected = self._fisher.project(gradients)
        self.column_of[places] = torch.arange(len(places)) + self._inner.shape[1]
        self._inner = torch.cat([self._inner, (self._gradients @ projected.T).cpu()], dim=1)
        self._plain = torch.cat([self._plain, (self._gradients @ gradients.T).cpu()], dim=1)
        self._projected = torch.cat([self._projected, projected])

    def pick(self, place: int) -> None:
        """Add a candidate to the set. It stays in the window, as an identical sample would.

        Args:
            place: Its place; it must have a column.
        """
        column, step = int(self.column_of[place]), self.picked
        form, alpha = float(self.forms[place]), self._fisher.alpha
        scale = math.sqrt(alpha / (1.0 + alpha * form))
        products = self._inner[:, column] - self._steps[:, :step] @ self._steps[place, :step]
        self._steps[:, step] = products.mul_(scale)
        self._places[step], self._scales[step], self._picked_forms[step] = place, scale, form
        self.forms = (self.forms - products.square_()).clamp_(min=0.0)
        self._products = self._products + self._plain[:, column]
        self._total += self._gradients[place]
        self._path += math.sqrt(float(self._norms[place]))
        self.picked += 1

    def close(self) -> None:
        """Carry the picks into P. The window must not be used afterwards."""
        if self.picked == 0:
            return
        places = self._places[: self.picked]
        # v_j / scale_j = P g_j - sum over the earlier picks l of v_l (v_l . g_j)
        lower = self._steps[places, : self.picked].tril(-1)
        lower.diagonal().copy_(1.0 / self._scales[: self.picked])
        device = self._projected.device
        projected = self._projected[self.column_of[places].to(device)]
        directions = torch.linalg.solve_triangular(lower.to(device), projected, upper=False)
        self._fisher.extend(directions, self._norms[places], self._picked_forms[: self.picked])


def absorb(gradients: torch.Tensor, fisher: FisherLogDet, total: torch.Tensor) -> None:
    """Add gradients that are no candidates to the set.

    Args:
        gradients: float64 of shape (m, d).
        fisher: P of the set.
        total: Sum of the set's gradients, float64 of shape (d,); brought up to date in place.
    """
    for block in torch.split(gradients, ABSORBED_TOGETHER):
        window = Window(block, block.square().sum(dim=1).cpu(), None, fisher, total, len(block))
        window.add_columns(torch.arange(len(block)))
        for place in range(len(block)):
            window.pick(place)
        window.close()
