"""Telling what happens, step by step: to a person on stderr, or to a program as lines of JSON on stdout."""

from types import TracebackType
from typing import Protocol, Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from bercail.cli.render import err, out, show_json
from bercail.core import news
from bercail.core.document import news_document
from bercail.core.report import news_lines, ready_lines


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
    """A line per step on stderr, a bar while weights load, the summary on stdout."""

    def __init__(self) -> None:
        self._console = err()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._url = ""

    def tell(self, item: news.News) -> None:
        """One step."""
        if isinstance(item, news.Loading):
            self._load(item)
            return
        self._end_bar()
        if isinstance(item, news.Listening):
            self._url = item.url
        for line in news_lines(item):
            style = "yellow" if isinstance(item, news.Warned | news.EngineDied | news.LoadFailed) else ""
            self._console.print(Text(line, style=style), soft_wrap=True)
        if isinstance(item, news.Ready):
            for line in ready_lines(item, self._url):
                out().print(Text(line), soft_wrap=True)

    def _load(self, item: news.Loading) -> None:
        if not self._console.is_terminal:
            return  # without a terminal the lines before and after say enough
        if self._progress is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:.0f} %"),
                TimeElapsedColumn(),
            )
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task(f"loading {item.model_id}", total=1.0)
            self._progress.start()
        if self._task is not None:
            stage = f"loading {item.model_id} ({item.progress.stage})"
            self._progress.update(self._task, completed=item.progress.fraction, description=stage)

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._end_bar()
