"""Many examples in little memory: five bytes a token instead of Python's sixty."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from spice_select.records.tokenize import IGNORED, Example


class TokenPool(Sequence[Example]):
    """Examples that are packed when they are added and made again when they are asked for.

    Args:
        examples: The first ones.
    """

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        self._ids, self._learned, self._ends = array("i"), array("b"), array("q", [0])
        self._weights: dict[int, array[float]] = {}
        self._splits: dict[int, int] = {}
        for example in examples:
            self.append(example)

    def append(self, example: Example) -> None:
        """Add an example at the end.

        Args:
            example: Its labels are the token ids themselves where they are learned.
        """
        self._ids.extend(example.input_ids)
        self._learned.extend(label != IGNORED for label in example.labels)
        if example.weights is not None:
            self._weights[len(self)] = array("d", example.weights)
        if example.split is not None:
            self._splits[len(self)] = example.split
        self._ends.append(len(self._ids))

    def lengths(self) -> list[int]:
        """Tokens of every example."""
        return [end - start for start, end in zip(self._ends, self._ends[1:], strict=False)]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        here = slice(self._ends[place], self._ends[place + 1])
        ids = self._ids[here].tolist()
        learned = self._learned[here]
        labels = [token if yes else IGNORED for token, yes in zip(ids, learned, strict=True)]
        weights = self._weights.get(place)
        return Example(ids, labels, None if weights is None else weights.tolist(), self._splits.get(place))

    def __iter__(self) -> Iterator[Example]:
        return (self[place] for place in range(len(self)))
