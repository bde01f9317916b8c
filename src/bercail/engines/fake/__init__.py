"""A deterministic engine without a model: for tests, demos and benchmarks. It answers in llama-server's shapes.

A request may carry the key ``fake`` with any of the knobs of ``Behaviour``; what it leaves out is as the engine
was made. ``GET /fake/journal`` tells what came in and when its client was seen to leave.
"""

from bercail.engines.fake.answers import Behaviour, Failure
from bercail.engines.fake.engine import FakeEngine, FakeProcess
from bercail.engines.fake.server import FakeServer, Visit

__all__ = ["Behaviour", "Failure", "FakeEngine", "FakeProcess", "FakeServer", "Visit"]
