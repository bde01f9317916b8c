"""Who hears an answer of a library that generates, and can be asked what it heard."""

import queue


class Hearer:
    """Implements ``generating.Hears``; ``reused`` is None as long as the prompt is not worked on."""

    def __init__(self) -> None:
        self.reused: int | None = None
        self._pieces: queue.SimpleQueue[tuple[list[int], str | None]] = queue.SimpleQueue()

    def begun(self, reused: int) -> None:
        self.reused = reused

    def heard(self, new: list[int], finish: str | None) -> None:
        self._pieces.put((new, finish))

    def next(self) -> tuple[list[int], str | None]:
        """The next piece; fails where none comes."""
        return self._pieces.get(timeout=60)

    def whole(self) -> tuple[int, str]:
        """How many tokens came, and why no more."""
        count, why = 0, None
        while why is None:
            new, why = self.next()
            count += len(new)
        return count, why
