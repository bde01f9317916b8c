"""Telling what happens, step by step: to a person on stderr, or to a program as lines of JSON on stdout."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from bercail.cli.render import Style, make_console, say, show, show_json
from bercail.core import news
from bercail.core.document import news_document
from bercail.core.news_report import news_lines, ready_lines

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def warn(item: news.News) -> None:
    """One step of a verb that has little to tell, on stderr."""
    for line in news_lines(item):
        say(line)


class Teller(Protocol):
    """Hears every step; a context manager that leaves the terminal tidy."""

    def tell(self, item: news.News) -> None:
        """One step."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JsonTeller:
    """One JSON object per step on stdout."""

    def tell(self, item: news.News) -> None:
        """One step."""
        show_json(news_document(item))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to tidy."""


class TerminalTeller:
    """A line per step on stderr, a bar while weights load, the summary on stdout.

    Args:
        stamp: what each line begins with, such as the time.
    """

    def __init__(self, stamp: Callable[[], str] = str) -> None:
        self._stamp = stamp
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._url = ""
        self._introduced = False

    def tell(self, item: news.News) -> None:
        """One step."""
        if isinstance(item, news.Loading):
            self._load(item)
            return
        self._end_bar()
        if isinstance(item, news.Listening):
            self._url = item.url
        style = Style.WARNING if isinstance(item, news.Warned | news.EngineDied | news.LoadFailed) else Style.PLAIN
        for line in news_lines(item):
            if isinstance(item, news.Waiting):
                show(line)
            else:
                say(self._stamp() + line, style)
        if isinstance(item, news.Ready):
            lines = ready_lines(item, self._url)
            for line in lines[:1] if self._introduced else lines:
                show(line)
            self._introduced = True

    def _load(self, item: news.Loading) -> None:
        if not sys.stderr.isatty():
            return  # without a terminal the lines before and after say enough
        if self._bar is None:
            self._bar = make_bar()
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()
        if self._task is not None:
            done = item.progress.fraction >= 1  # then weights are rearranged and tried, which the engine does not count
            stage = f"preparing {item.model_id}" if done else f"loading {item.model_id} ({item.progress.stage})"
            total = None if done else 1.0
            self._bar.update(self._task, total=total, completed=item.progress.fraction, description=stage)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._end_bar()


def make_bar() -> "Progress":
    """A bar on stderr that vanishes when its work is done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    percentage = TextColumn("{task.percentage:.0f} %")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), percentage, TimeElapsedColumn())
    return Progress(*columns, console=make_console(sys.stderr), transient=True)
