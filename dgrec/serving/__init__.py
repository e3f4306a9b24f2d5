"""The web server of dgrec: one small server in a thread of its own.

=======  =======================================================================
server   the server: routes by their paths, and limits for all clients
tls      certificates, and handshakes that are bounded
guard    who may ask: Host, Origin, token
channel  messages to any number of clients, none of which waits for another
streams  the clients of a channel: WebSockets and Server-Sent Events
=======  =======================================================================
"""

from dgrec.serving.channel import Channel, Receipt
from dgrec.serving.guard import is_loopback
from dgrec.serving.server import HEADERS, PAGE_HEADERS, Route, Server, open_server
from dgrec.serving.streams import EVENT_HEADERS, serve_events, serve_websocket
from dgrec.serving.tls import Certificate

__all__ = [
    "Certificate",
    "Channel",
    "EVENT_HEADERS",
    "HEADERS",
    "PAGE_HEADERS",
    "Receipt",
    "Route",
    "Server",
    "is_loopback",
    "open_server",
    "serve_events",
    "serve_websocket",
]
