"""Our own files: settings, API keys, the record of requests, what is kept between runs, the journal of children."""

from bercail.store.activity import ActivityLedger
from bercail.store.archive import FolderArchive
from bercail.store.cache import FileCache
from bercail.store.configuration import ConfigurationFiles
from bercail.store.journal import Child, ChildJournal, Process, Scope, is_alive
from bercail.store.keys import FileKeyring
from bercail.store.log import MemoryLog
from bercail.store.paths import Paths, find_paths, make_private
from bercail.store.processes import look, read_scope
from bercail.store.register import ServerRegister
from bercail.store.settings import FILE_NAME, OTHER_VARIABLES, load_settings
from bercail.store.shelf import FolderShelf

__all__ = [
    "FILE_NAME",
    "OTHER_VARIABLES",
    "ActivityLedger",
    "Child",
    "ChildJournal",
    "ConfigurationFiles",
    "FileCache",
    "FileKeyring",
    "FolderArchive",
    "FolderShelf",
    "MemoryLog",
    "Paths",
    "Process",
    "Scope",
    "ServerRegister",
    "find_paths",
    "is_alive",
    "load_settings",
    "look",
    "make_private",
    "read_scope",
]
