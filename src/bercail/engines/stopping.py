"""Stop strings in text that comes in pieces. Pure."""

from collections.abc import Sequence


class Tail:
    """Holds back what may be the beginning of a stop string.

    Attributes:
        word: the stop string that has come, or empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.word = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """What is certain by now, and whether a stop string has come; it and what follows it are dropped."""
        text = self._held + text
        places = [(place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            place, self.word = min(places, key=lambda found: found[0])
            self._held = ""
            return text[:place], True
        keep = max((self._overlap(text, stop) for stop in self._stops), default=0)
        certain = len(text) - keep
        self._held = text[certain:]
        return text[:certain], False

    def end(self) -> str:
        """What was held back and turned out to be no stop string."""
        rest, self._held = self._held, ""
        return rest

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """How many characters at the end of ``text`` begin ``stop``."""
        longest = min(len(text), len(stop) - 1)
        return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
