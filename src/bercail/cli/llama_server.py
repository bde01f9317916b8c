"""``bercail-llama-server``: takes the command line of ``llama-server`` and runs it on the engine at hand."""

import os
import sys

from bercail.cli.render import say, show_error
from bercail.core.errors import BercailError
from bercail.wiring import llama_server


def main() -> None:
    """Becomes the server; comes back only if that fails."""
    try:
        command, environment, notices = llama_server(sys.argv[1:], os.environ)
    except BercailError as error:
        show_error(error, as_json=False)
        sys.exit(error.exit_code)
    for notice in notices:
        say(f"note     {notice}")
    os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted
