"""What llama.cpp's library logs: its thread lags behind, and nothing may be lost by that."""

import ctypes

import pytest

from bercail.engines.llama_cpp.library import library_path
from bercail.engines.llama_cpp.log import overheard

pytestmark = pytest.mark.engine
ERROR = 4
"""``GGML_LOG_LEVEL_ERROR``."""


def test_the_last_words_are_heard_however_far_the_log_lags_behind(capfd: pytest.CaptureFixture[str]) -> None:
    library = ctypes.CDLL(str(library_path()))
    main, add = library["_Z15common_log_mainv"], library["_Z14common_log_addP10common_log14ggml_log_levelPKcz"]
    main.restype = ctypes.c_void_p
    log = ctypes.c_void_p(main())
    for _ in range(20):
        with overheard() as heard:
            for number in range(200):
                add(log, ERROR, b"line %d\n", number)
            lines = heard()
        assert len(lines) == 200
        assert lines[-1].endswith("line 199")
    capfd.readouterr()
