"""What happens: one async function per user verb, given ports."""

from bercail.flows.chat import Answer, Piece, Seat, ask, take_seat
from bercail.flows.choose import chosen, use
from bercail.flows.compare import compare
from bercail.flows.config import Checked
from bercail.flows.config import check as check_configuration
from bercail.flows.engine import Order, build, built
from bercail.flows.hand import Moved, load, logs, profiles, running, running_at, switch, unload
from bercail.flows.inspect import inspect, search, troubles
from bercail.flows.keys import Revoked, create, revoke, usage
from bercail.flows.machine import Here, around, glance, look, survey
from bercail.flows.measure import measure
from bercail.flows.plan import Planned, check, plan
from bercail.flows.reread import Source
from bercail.flows.servers import Sought, meant, record_of, the_one
from bercail.flows.up import Request, up

__all__ = [
    "Answer", "Checked", "Here", "Moved", "Order", "Piece", "Planned", "Request", "Revoked", "Seat", "Sought",
    "Source", "around", "ask", "build", "built", "check", "check_configuration", "chosen", "compare", "create",
    "glance", "inspect", "load", "logs", "look", "meant", "measure", "plan", "profiles", "record_of", "revoke",
    "running", "running_at", "search", "survey", "switch", "take_seat", "the_one", "troubles", "unload", "up",
    "usage", "use",
]  # fmt: skip
