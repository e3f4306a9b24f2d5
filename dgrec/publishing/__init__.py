"""Frames on their way to others: what is sent of each, and where to.

=======  =======================================================================
payload  what is sent of a frame, as JSON: DeGirum's guide's, or all of it
rest     what a target did not get while recording
address  targets as they are written: ``mqtt://broker/cams/door``
target   a base class of what takes messages
lines    a file, or standard output
mqtt     a broker
http     a web server that takes POST requests
served   clients of what dgrec serves: WebSockets, Server-Sent Events
=======  =======================================================================
"""

from dgrec.publishing.address import STDOUT, TargetAddress, open_target, parse_target
from dgrec.publishing.lines import Lines, check_target
from dgrec.publishing.payload import PayloadForm, PublishedFrame, message_of, payload
from dgrec.publishing.rest import Outgoing, Rest, rest_of
from dgrec.publishing.target import Target

__all__ = [
    "Lines",
    "PayloadForm",
    "PublishedFrame",
    "Rest",
    "Outgoing",
    "STDOUT",
    "Target",
    "TargetAddress",
    "check_target",
    "message_of",
    "open_target",
    "parse_target",
    "payload",
    "rest_of",
]
