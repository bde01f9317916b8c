"""``python -m bercail`` is ``bercail``."""

from bercail.cli import main

main()
