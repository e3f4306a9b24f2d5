"""Publishing frames: the payload of each, and the targets.

===============  ===============================================================
payload          a frame as JSON: as in DeGirum's guide, or all of it
plain_values     values as JSON can hold them
changes          tracks and labels that appear, change and end
messages         the messages of a recording, in their order
missed_messages  messages that a target did not get while recording
address          targets as they are written: ``mqtt://broker/cams/door``
logins           from dgrec.toml, the environment, files
homeassistant    the introduction of a recording to Home Assistant
target           the base class of targets
lines            a file, or standard output
mqtt             a broker
http             a web server that takes POST requests
served           clients that connect to dgrec: WebSockets, Server-Sent Events
===============  ===============================================================
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
