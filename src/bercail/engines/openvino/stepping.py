"""A step of OpenVINO's pipeline that lets other threads of Python run meanwhile.

Its binding keeps the interpreter's lock for the whole of a step, a tenth of a second or seconds: requests that come
meanwhile would not even be read, each hop of each of them waiting for the end of another step. So the C++ function is
called by its symbol, on the pipeline inside the Python object; ``ctypes`` gives the lock away for the call.

Source: openvino_genai 2026.4 (its wheel exports the symbol); the layout of instances is pybind11's.
"""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRIED = "2026.4"
"""Version whose objects are known to be so."""
_STEP = "_ZN2ov5genai26ContinuousBatchingPipeline4stepEv"
_OBJECT_HEAD = 2 * ctypes.sizeof(ctypes.c_void_p)
"""A Python object's count and type; the address of the pipeline follows."""


def stepper(genai: Any, pipeline: Any) -> Callable[[], None]:
    """What steps ``pipeline``: its own method, with a word on what that costs, where the library is another version."""
    step: Callable[[], None] = pipeline.step
    if not genai.__version__.startswith(f"{TRIED}."):
        sys.stderr.write(
            f"OpenVINO GenAI {genai.__version__} is not the version that was tried ({TRIED}): while it works on a "
            "step, requests wait to be read\n"
        )
        return step
    try:
        (path,) = Path(genai.__file__).parent.glob("libopenvino_genai.so*")
        function = ctypes.CDLL(str(path))[_STEP]
    except (ValueError, OSError, AttributeError) as error:
        sys.stderr.write(f"the library of OpenVINO GenAI cannot be called ({error}): while it works, requests wait\n")
        return step
    function.restype, function.argtypes = None, (ctypes.c_void_p,)
    address = ctypes.c_void_p.from_address(id(pipeline) + _OBJECT_HEAD)
    return lambda: function(address)
