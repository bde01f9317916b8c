"""Configurations as files, and a look for what they name."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bercail.core.configuration import Configuration, Loaded
from bercail.core.errors import SettingsError
from bercail.core.options import Settings
from bercail.core.tree import Texts
from bercail.store.settings import SUFFIXES, apart, apply, gather, in_force, placed, with_places


class ConfigurationFiles:
    """Reads configurations from this machine's disk.

    Args:
        environment: what ``${env.NAME}`` and the folders of programs are read from.
        home: what ``~/`` stands for.
    """

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        self._environment = environment
        self._home = home

    def gather(self, file: str | None, folder: str | None) -> Texts:
        """The texts of a file, and of every file of a folder, which are read as one; ``file`` may be the folder.

        Raises:
            SettingsError: one cannot be read, there is none, or one is named twice.
        """
        return gather(Path(file) if file else None, Path(folder) if folder else None)

    def read(self, texts: Texts) -> Configuration:
        """The configuration that files hold together, settings beside it checked as well.

        Raises:
            SettingsError: something in it is wrong; tells the line and what to do.
        """
        return self._checked(texts)[1]

    def load(self, texts: Texts, given: Mapping[str, object]) -> Loaded:
        """The same with the settings in force: those of the files, of the environment, and ``given`` ones by key.

        Raises:
            SettingsError: as ``read``; or a variable or a given value is wrong.
        """
        written, configuration = self._checked(texts)
        return Loaded(settings=in_force(written, self._environment, given, self._home), configuration=configuration)

    def _checked(self, texts: Texts) -> tuple[Mapping[str, object], Configuration]:
        """The settings that files hold, and their configuration, whose activity can be kept where it says."""
        from bercail.store.contents import read_all  # a YAML parser takes a while to load

        contents = read_all(texts, self._environment)
        configuration = with_places(contents, self._home)
        store = configuration.gateway.store_path
        if store and (trouble := self._unwritable(Path(store))):
            words = f"{contents.store_place}: store.path: {trouble}"
            raise SettingsError(words, hint="name a file in a folder that may be written to")
        return contents.settings, configuration

    def look(self, file: str | None, folder: str | None) -> tuple[object, ...] | None:
        """Something that differs once one of these files is another, or has been written to, or there are others.

        Of a link, or one by way of a folder that is a link (a ConfigMap of Kubernetes), what it leads to counts. None
        while the file, or the folder, is not there.
        """
        try:
            one, many = apart(Path(file) if file else None, Path(folder) if folder else None)
            inside, named = sorted(many.iterdir()) if many else [], [one] if one else []
            return tuple(_identity(found) for found in (*named, *inside) if found in named or found.suffix in SUFFIXES)
        except OSError:
            return None

    def settings(self, texts: Texts) -> Settings:
        """The settings that files make by themselves, whatever the environment says.

        Raises:
            SettingsError: as ``read``.
        """
        from bercail.store.contents import read_all  # a YAML parser takes a while to load

        return apply(read_all(texts, self._environment).settings)

    def has_file(self, path: str, file: str) -> bool:
        """Whether a path that ``file`` names leads to a file or folder; it may begin where ``file`` lies."""
        return placed(path, file, self._home).exists()

    def has_program(self, name: str, path: str | None) -> bool:
        """Whether a program can be started; ``path`` are the folders searched, or None for those of this process."""
        return shutil.which(name, path=self._environment.get("PATH") if path is None else path) is not None

    def _unwritable(self, path: Path) -> str:
        """Why no file can be written there; empty if it can."""
        if path.is_dir():
            return f"{path} is a folder"
        if not path.parent.is_dir():
            return f"the folder {path.parent} does not exist"
        place = path if path.exists() else path.parent
        return "" if os.access(place, os.W_OK) else f"{place} may not be written to"


def _identity(file: Path) -> tuple[object, ...]:
    place = file.resolve()
    found = place.stat()
    return str(place), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
