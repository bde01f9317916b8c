"""Configurations as files, and a look for what they name."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bercail.core.configuration import Configuration
from bercail.core.errors import SettingsError
from bercail.core.options import EngineOptions
from bercail.store.settings import apply, read_text


class ConfigurationFiles:
    """Reads configurations from this machine's disk.

    Args:
        environment: what ``${env.NAME}`` and the folders of programs are read from.
        home: what ``~/`` stands for.
    """

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        self._environment = environment
        self._home = home

    def read_text(self, file: str) -> str:
        """The text of a file.

        Raises:
            SettingsError: it cannot be read.
        """
        text = read_text(Path(file), must_exist=True)
        assert text is not None
        return text

    def read(self, text: str, file: str) -> Configuration:
        """The configuration that the text of ``file`` holds, settings beside it checked as well.

        Raises:
            SettingsError: something in it is wrong; tells the line and what to do.
        """
        from bercail.store.contents import read_contents  # a YAML parser takes a while to load

        contents = read_contents(text, origin=file, environment=self._environment)
        store = contents.configuration.gateway.store_path
        if store and (trouble := self._unwritable(self._placed(store, file))):
            place = f"{file}, line {contents.store_line}"
            raise SettingsError(
                f"{place}: store.path: {trouble}", hint="name a file in a folder that may be written to"
            )
        return contents.configuration

    def look(self, file: str) -> tuple[object, ...] | None:
        """Something that differs once ``file`` is another, or has been written to; None while it is not there.

        Of a link, or one by way of a folder that is a link (a ConfigMap of Kubernetes), what it leads to counts.
        """
        try:
            place = Path(file).resolve()
            found = place.stat()
        except OSError:
            return None
        return str(place), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def wishes(self, text: str, file: str) -> EngineOptions:
        """What the text of ``file`` wishes of the engines of all models.

        Raises:
            SettingsError: as ``read``.
        """
        from bercail.store.contents import read_contents  # a YAML parser takes a while to load

        return apply(read_contents(text, origin=file, environment=self._environment).settings).engine

    def has_file(self, path: str, file: str) -> bool:
        """Whether a path that ``file`` names leads to a file or folder; it may begin where ``file`` lies."""
        return self._placed(path, file).exists()

    def has_program(self, name: str, path: str | None) -> bool:
        """Whether a program can be started; ``path`` are the folders searched, or None for those of this process."""
        return shutil.which(name, path=self._environment.get("PATH") if path is None else path) is not None

    def _placed(self, path: str, file: str) -> Path:
        own = self._home / path[2:] if path.startswith("~/") else Path(path)
        return Path(file).absolute().parent / own

    def _unwritable(self, path: Path) -> str:
        """Why no file can be written there; empty if it can."""
        if path.is_dir():
            return f"{path} is a folder"
        if not path.parent.is_dir():
            return f"the folder {path.parent} does not exist"
        place = path if path.exists() else path.parent
        return "" if os.access(place, os.W_OK) else f"{place} may not be written to"
