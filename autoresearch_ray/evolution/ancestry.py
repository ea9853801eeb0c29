"""Who descends from whom: sixteen bytes a birth, whatever the size of the lineage.

Owns parenthood by birth number. Does not own sources or scores.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence

_NONE = -1


class Ancestry:
    """The parents of every variant. A parent's number is always smaller than its child's."""

    def __init__(self) -> None:
        self._parents = array("q")

    def __len__(self) -> int:
        """Return one more than the greatest number recorded."""
        return len(self._parents) // 2

    def record(self, number: int, parents: Sequence[int]) -> None:
        """Record the parents of birth `number`: none, one or two smaller numbers.

        Raises:
            ValueError: more than two parents, or a parent that was not born before its child.
        """
        if len(parents) > 2 or any(not 0 <= parent < number for parent in parents):
            raise ValueError(f"birth {number} cannot have the parents {list(parents)}")
        while len(self) <= number:
            self._parents.extend((_NONE, _NONE))
        self._parents[2 * number : 2 * number + 2] = array("q", [*parents, _NONE, _NONE][:2])

    def parents(self, number: int) -> tuple[int, ...]:
        """Return the parents of birth `number`; none for the seed and for what was never recorded."""
        return tuple(parent for parent in self._parents[2 * number : 2 * number + 2] if parent != _NONE)

    def common_ancestor(self, first: int, second: int) -> int | None:
        """Return the latest-born variant that both descend from; one of the two where it is the other's ancestor.

        No other common ancestor descends from it, since descendants have greater numbers. None for strangers.
        """
        seen = {first: 1, second: 2} if first != second else {first: 3}
        queue = [-number for number in seen]
        heapq.heapify(queue)
        while queue:
            number = -heapq.heappop(queue)
            if seen[number] == 3:
                return number
            for parent in self.parents(number):
                if parent not in seen:
                    heapq.heappush(queue, -parent)
                seen[parent] = seen.get(parent, 0) | seen[number]
        return None

    def related(self, first: int, second: int) -> bool:
        """Return whether the two are the same, or one descends from the other."""
        return self.common_ancestor(first, second) in (first, second)
