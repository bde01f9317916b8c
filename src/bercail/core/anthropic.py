"""What of Anthropic's requests must be changed before an engine reads them."""

from bercail.core.chat import Json

BILLING = "x-anthropic-billing-header:"
"""How a block of the system prompt begins that some clients fill anew for every request."""


def without_billing(body: Json) -> Json:
    """A request without blocks that only count.

    They stand before everything else, so that with them no prompt would be found in the engine's cache.
    """
    system = body.get("system")
    if isinstance(system, list):
        return body | {"system": [block for block in system if not _is_billing(block)]}
    if isinstance(system, str) and system.startswith(BILLING):
        return body | {"system": system.partition("\n")[2]}
    return body


def _is_billing(block: object) -> bool:
    text = block.get("text") if isinstance(block, dict) else None
    return isinstance(text, str) and text.startswith(BILLING)
