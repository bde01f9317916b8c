"""What our workers share."""

import subprocess
import sys

BREAKS = """
import time
from bercail.engines.serving import keep_working
def work():
    raise RuntimeError("no more memory")
keep_working(work, "pipeline")
time.sleep(60)
"""


def test_work_that_breaks_ends_the_process_and_says_why() -> None:
    done = subprocess.run([sys.executable, "-c", BREAKS], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (1, "pipeline broke: no more memory\n")
