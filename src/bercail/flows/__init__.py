"""What happens: one async function per user verb, given ports."""

from bercail.flows.chat import Answer, Piece, Seat, ask, take_seat
from bercail.flows.choose import chosen, use
from bercail.flows.compare import compare
from bercail.flows.config import Checked
from bercail.flows.config import check as check_configuration
from bercail.flows.engine import Order, build, built
from bercail.flows.hand import Moved, load, logs, profiles, running, switch, unload
from bercail.flows.inspect import inspect, search, troubles
from bercail.flows.keys import Revoked, create, revoke, usage
from bercail.flows.machine import Here, around, glance, look, survey
from bercail.flows.measure import measure
from bercail.flows.plan import Planned, check, plan
from bercail.flows.reread import Source
from bercail.flows.up import Request, up

__all__ = [
    "Answer", "Checked", "Here", "Moved", "Order", "Piece", "Planned", "Request", "Revoked", "Seat", "Source", "around",
    "ask", "build", "built", "check", "check_configuration", "chosen", "compare", "create", "glance", "inspect", "load",
    "logs", "look", "measure", "plan", "profiles", "revoke", "running", "search", "survey", "switch", "take_seat",
    "troubles",
    "unload", "up", "usage", "use",
]  # fmt: skip
