"""Frames on their way to others: what is sent of each, and where to.

=============  =================================================================
payload        what is sent of a frame, as JSON: DeGirum's guide's, or all of it
plain          values as JSON can hold them
changes        tracks and labels that appear, change and end
messages       the messages of a recording, in their order
rest           what a target did not get while recording
address        targets as they are written: ``mqtt://broker/cams/door``
logins         from dgrec.toml, the environment, files
homeassistant  how a recording introduces itself to Home Assistant
target         a base class of what takes messages
lines          a file, or standard output
mqtt           a broker
http           a web server that takes POST requests
served         clients of what dgrec serves: WebSockets, Server-Sent Events
=============  =================================================================
"""

from dgrec.publishing.address import (
    TargetAddress,
    check_discovery,
    distinct_names,
    missing_command,
    open_target,
    parse_target,
)
from dgrec.publishing.homeassistant import Device
from dgrec.publishing.lines import Lines, check_target
from dgrec.publishing.messages import ALERT_KINDS, Messages, PayloadOptions
from dgrec.publishing.missed_messages import Outgoing, missed_messages_of
from dgrec.publishing.payload import PayloadForm, PublishedFrame, payload
from dgrec.publishing.target import Target

__all__ = [
    "ALERT_KINDS",
    "Device",
    "Lines",
    "Messages",
    "Outgoing",
    "PayloadForm",
    "PayloadOptions",
    "PublishedFrame",
    "Target",
    "TargetAddress",
    "check_discovery",
    "check_target",
    "distinct_names",
    "missing_command",
    "open_target",
    "parse_target",
    "payload",
    "missed_messages_of",
]
