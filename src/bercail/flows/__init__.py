"""What happens: one async function per user verb, given ports."""

from bercail.flows.chat import Answer, Piece, Seat, ask, take_seat
from bercail.flows.choose import chosen, use
from bercail.flows.compare import compare
from bercail.flows.engine import Order, build, built
from bercail.flows.inspect import inspect
from bercail.flows.keys import Revoked, create, revoke, usage
from bercail.flows.machine import glance, look
from bercail.flows.measure import measure
from bercail.flows.plan import Planned, check, plan
from bercail.flows.up import Request, up

__all__ = [
    "Answer", "Order", "Piece", "Planned", "Request", "Revoked", "Seat", "ask", "build", "built", "check", "chosen",
    "compare", "create", "glance", "inspect", "look", "measure", "plan", "revoke", "take_seat", "up", "usage", "use",
]  # fmt: skip
