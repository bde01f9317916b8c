"""One sample of every kind of news."""

from bercail.core import news
from bercail.core.launch import Progress
from bercail.core.model import Findings
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.units import MIB
from fakes.models import a_found, a_machine, a_model


def a_plan() -> Fits:
    verdict = decide(a_machine(), a_model(), EngineOptions())
    assert isinstance(verdict, Fits)
    return verdict


EVERY_NEWS: tuple[news.News, ...] = (
    news.Reconciled(ended=("process 7",)),
    news.MachineProbed(machine=a_machine()),
    news.ModelsFound(findings=Findings(models=(a_found(),), looked=("/m",))),
    news.Listening(url="http://127.0.0.1:8123"),
    news.Waiting(url="http://127.0.0.1:8123", models=5, failed=3),
    news.ModelRead(model=a_model(notes=("odd",))),
    news.Trying(engine="llama.cpp", repack=True, setting="ubatch 256"),
    news.Warned(text="careful"),
    news.Planned(plan=a_plan()),
    news.Loading(model_id="tiny", progress=Progress(stage="weights", fraction=0.5)),
    news.Ready(plan=a_plan(), seconds=2.5, resident_bytes=300 * MIB),
    news.CommandReady(model_id="tiny", seconds=1.5, address="127.0.0.1:5800", resident_bytes=None),
    news.Reloaded(changed=("a",), added=(), gone=("b", "c")),
    news.ContextKept(model_id="tiny", tokens=8192),
    news.ContextRestored(model_id="tiny", tokens=8192),
    news.LoadFailed(model_id="tiny", error="no memory"),
    news.EngineDied(model_id="tiny", error="killed by signal 9", log_tail=("a", "b"), retry_s=2.0),
    news.Unloaded(model_id="tiny"),
    news.Stopping(drain_s=30.0),
    news.Stopped(cut=2),
)
