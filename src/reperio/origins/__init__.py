"""Where the truth of a collection is when many hosts share it: an origin, and what is needed to talk to one."""

from reperio.origins.address import Address, is_origin
from reperio.origins.connecting import connect, create
from reperio.origins.protocol import Block, Change, ForgottenRecord, Origin, OriginState, Position, Pulled, new_token

__all__ = [
    "Address",
    "Block",
    "Change",
    "ForgottenRecord",
    "Origin",
    "OriginState",
    "Position",
    "Pulled",
    "connect",
    "create",
    "is_origin",
    "new_token",
]
