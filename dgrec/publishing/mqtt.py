"""A target: an MQTT broker, through paho."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from dgrec.errors import ConfigError, OutputError
from dgrec.message import Message
from dgrec.publishing.address import TargetAddress
from dgrec.publishing.homeassistant import OFF, OFFLINE, ON, ONLINE, Device
from dgrec.publishing.target import Target
from dgrec.terminal import shortened

#: Messages that the broker has not confirmed yet, at most.
_MOST_ON_THE_WAY: Final = 100
#: Seconds between attempts to connect.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1, 5
#: How long the end waits for a broker that confirms nothing.
_PATIENCE_S: Final = 3.0
#: Seconds after which `send` looks whether the broker is away.
_LOOK_S: Final = 0.5
#: paho's MQTT_ERR_NO_CONN.
_NO_CONNECTION: Final = 4
_NOT_CONFIRMED: Final = "the broker did not confirm them"
_LOST: Final = "the connection to the broker was lost"
#: Bytes of the longest text that MQTT can send, and of the longest suffix of a topic.
_LONGEST_TEXT, _LONGEST_SUFFIX = 0xFFFF, 100
#: Suffixes of a topic: for alerts, and for whether messages are being published.
_ALERTS, _STATUS = "/alerts", "/status"
#: A broker's reasons for which another attempt is of no use.
_REFUSED: Final = ("Not authorized", "Bad user name or password", "Client identifier not valid")


class Broker(Target):
    """Publishes each message to a topic, in order; paho connects again when the broker goes away.

    Alerts go to ``TOPIC/alerts``. ``TOPIC/status`` is ``online`` (retained) meanwhile, and
    ``offline`` afterwards: the broker itself publishes that if this process dies.

    At most 100 messages are on their way; then `send` waits. With QoS 0 it waits until its message
    has been sent, which counts as delivered; else it counts when the broker has confirmed it.

    Args:
        device: The device that Home Assistant finds by itself.

    Raises:
        ConfigError: paho-mqtt is not installed, a certificate cannot be read, or a text is one
            that MQTT cannot send.
    """

    def __init__(self, address: TargetAddress, topic: str, device: Device | None = None) -> None:
        super().__init__()
        try:
            from paho.mqtt import client as paho
        except ImportError:
            raise ConfigError(
                f"--publish {address.given}: needs paho-mqtt: `pip install 'dgrec[mqtt]'`"
            ) from None
        for what, text in (
            ("topic", topic + " " * _LONGEST_SUFFIX),
            ("client_id", address.option("client_id")),
            ("user", address.user),
            ("password", address.password),
        ):
            _check_text(address.given, what, text)
        self.name = address.given
        self._topic = topic
        self._qos = int(address.option("qos", "1"))
        self._retain = address.option("retain", "0") == "1"
        #: Retained messages by their topics, for whenever there is a connection.
        self._retained = {topic + _STATUS: ONLINE}
        self._alert_topics: Mapping[str, str] = {}
        if device is not None:
            self._alert_topics = device.alert_topics(topic)
            self._retained |= dict.fromkeys(self._alert_topics.values(), OFF)
            self._retained |= [device.discovery(topic)]
        #: Held while retained messages are published, so that an older one never comes last.
        self._retaining = threading.Lock()
        self._changed = threading.Condition()
        #: Held while a message is given to paho, and where a connection begins.
        self._giving = threading.Lock()
        #: Whether there is a connection over which paho has sent again what it kept. What it got
        #: before that would come first, so messages and states of alerts wait here.
        self._is_joined = False
        self._held: list[tuple[str, Message]] = []
        self._held_states: dict[str, bytes] = {}
        #: The number of the message whose confirmation says so.
        self._joined_by = 0
        #: Keys of messages by their numbers.
        self._on_the_way: dict[int, str] = {}
        self._early: set[int] = set()
        #: Numbers of messages that are not the recording's.
        self._own: set[int] = set()
        #: How often a connection was lost.
        self._losses = 0
        self._is_closing = False
        #: Whether `close` has been called, perhaps while another thread sends.
        self._is_ending = False
        self._refusal = ""
        #: Why the last attempt to connect failed.
        self._trouble = ""
        client = self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            # One that stays: a broker that has not noticed yet that a connection is lost would
            # publish that this target is offline after it is online again.
            client_id=address.option("client_id") or f"dgrec-{secrets.token_hex(8)}",
        )
        client.max_queued_messages_set(0)
        client.will_set(topic + _STATUS, OFFLINE, qos=1, retain=True)
        client.max_inflight_messages_set(_MOST_ON_THE_WAY)
        client.reconnect_delay_set(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        if address.user:
            client.username_pw_set(address.user, address.password or None)
        if address.scheme == "mqtts":
            self._use_tls(address)
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_publish = self._on_publish
        try:
            client.connect_async(address.host, address.port, keepalive=30)
        except ValueError as error:
            raise ConfigError(f"--publish {address.given}: {error}") from None
        client.loop_start()

    def send(self, message: Message) -> None:
        topic = self._topic + _ALERTS if message.event == "alert" else self._topic
        is_kept = False
        while not is_kept:
            self._wait_until_it_takes_more()
            is_kept = self._publish(topic, message)
        if message.of in self._alert_topics and message.event == "alert":
            self._set_state(self._alert_topics[message.of], OFF if message.ends else ON)

    def give_up(self) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._is_ending = True
            waiting, until = self._waiting(), time.monotonic() + _PATIENCE_S
            while waiting and not self._refusal and time.monotonic() < until:
                self._changed.wait(0.1)
                if self._waiting() < waiting:
                    waiting, until = self._waiting(), time.monotonic() + _PATIENCE_S
            self._is_closing = True
        self._end_connection(is_confirming=not waiting)
        if waiting:
            raise OutputError(
                f"{waiting:,} of {waiting + self.delivered:,} messages were not delivered: "
                f"{self._refusal or self._trouble or _NOT_CONFIRMED}"
            )

    # --- inside ---

    def _wait_until_it_takes_more(self) -> None:
        with self._changed:
            while self._is_full() and not self._refusal:
                self._changed.wait(_LOOK_S)
                if self._trouble:
                    self._report_wait(self._trouble)
                if self._is_ending:
                    raise OutputError(f"{self.name}: {self._trouble or _NOT_CONFIRMED}")
            if self._refusal:
                raise OutputError(f"{self.name}: {self._refusal}")

    def _is_full(self) -> bool:
        is_away = self._qos == 0 and not self._is_joined
        return is_away or self._waiting() >= _MOST_ON_THE_WAY

    def _waiting(self) -> int:
        return len(self._on_the_way) + len(self._held)

    def _publish(self, topic: str, message: Message) -> bool:
        """Give paho a message; return False if it has forgotten it.

        While the broker is away, paho keeps messages, and says so only by its return code; but it
        keeps none with QoS 0, nor those with QoS 0 that it has not sent when a connection is lost.
        """
        losses = self._losses
        with self._giving:
            with self._changed:
                if not self._is_joined:
                    if self._qos:
                        self._held.append((topic, message))
                    return self._qos > 0
            # paho calls back with a lock of its own, so ``_changed`` is not held here.
            published = self._client.publish(topic, message.text, self._qos, self._retain)
        number, is_lost = published.mid, published.rc == _NO_CONNECTION
        with self._changed:
            if number in self._early:
                self._early.discard(number)
                self._take(message.key)
                return True
            self._on_the_way[number] = message.key
            while self._qos == 0 and number in self._on_the_way and not self._is_ending:
                if is_lost or self._losses > losses:
                    del self._on_the_way[number]
                    return False
                self._changed.wait(_LOOK_S)
            return True

    def _set_state(self, topic: str, state: bytes) -> None:
        with self._retaining:
            self._retained[topic] = state
            with self._giving:
                with self._changed:
                    if not self._is_joined:
                        self._held_states[topic] = state
                        return
                number = self._client.publish(topic, state, qos=1, retain=True).mid
        with self._changed:
            if number in self._early:
                self._early.discard(number)
            else:
                self._own.add(number)

    def _end_connection(self, *, is_confirming: bool) -> None:
        """Publish that this target is offline: after a farewell, brokers send no will.

        A broker that confirms nothing gets no farewell, and sends the will.
        """
        if is_confirming:
            if self._client.is_connected():
                farewell = self._client.publish(self._topic + _STATUS, OFFLINE, qos=1, retain=True)
                with contextlib.suppress(ValueError, RuntimeError):  # the connection is just lost
                    farewell.wait_for_publish(_PATIENCE_S)
        elif (connection := self._client.socket()) is not None:
            # Otherwise paho would wait until the broker reads again.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._client.disconnect()
        with contextlib.suppress(AttributeError):  # of paho, where its thread ends just now
            self._client.loop_stop()
        self._client.disconnect()  # if it has connected meanwhile

    def _use_tls(self, address: TargetAddress) -> None:
        try:
            self._client.tls_set(
                ca_certs=address.option("ca") or None,
                certfile=address.option("cert") or None,
                keyfile=address.option("key") or None,
            )
        except (OSError, ValueError, ssl.SSLError) as error:
            raise ConfigError(f"--publish {address.given}: certificate: {error}") from None

    # --- called by paho, in its thread ---

    def _on_pre_connect(self, client: Any, data: Any) -> None:
        with self._giving:  # whoever gave a message to the connection before has done so
            self._part()

    def _part(self) -> None:
        # paho may be in the middle of what it keeps: nothing can be given to it here.
        with self._changed:
            self._is_joined, self._joined_by = False, 0
            self._changed.notify_all()

    def _join(self) -> None:
        """Give paho what was held back, after all that it had."""
        with self._changed:
            if self._is_closing:
                return
            for topic, message in self._held:
                published = self._client.publish(topic, message.text, self._qos, self._retain)
                self._on_the_way[published.mid] = message.key
            for topic, state in self._held_states.items():
                self._own.add(self._client.publish(topic, state, qos=1, retain=True).mid)
            self._held.clear()
            self._held_states.clear()
            self._is_joined = True
            self._changed.notify_all()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if str(reason) in _REFUSED:
            self._refuse(f"the broker refuses: {reason}")
        elif reason.is_failure:  # it may be too busy; paho tries again
            self._trouble = f"the broker refuses: {reason}"
        else:
            self._trouble = ""
            self._announce()
            if self._is_closing:  # it was too late to end the attempt
                client.disconnect()
        with self._changed:
            self._changed.notify_all()

    def _on_disconnect(
        self, client: Any, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        with self._changed:
            self._losses += 1
            if not self._is_closing:  # by us
                self._trouble = self._trouble or _LOST
            self._part()

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        error = sys.exc_info()[1]  # which paho is handling
        if isinstance(error, ssl.SSLCertVerificationError):
            self._refuse(f"the broker's certificate is refused: {error.verify_message}")
        elif isinstance(error, OSError):
            self._trouble = error.strerror or str(error)

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._changed:
            if mid in self._own:
                self._own.discard(mid)
                if mid == self._joined_by:
                    self._join()
                return
            if self._is_closing:  # the undelivered messages are counted by now
                return
            key = self._on_the_way.pop(mid, None)
            if key is None:  # confirmed before `send` knew its number
                self._early.add(mid)
                return
            self._take(key)
            self._changed.notify_all()

    def _announce(self) -> None:
        with self._retaining, self._changed:
            if self._is_closing:  # or it would come after the farewell
                return
            for topic, payload in self._retained.items():
                message = self._client.publish(topic, payload, qos=1, retain=True)
                self._own.add(message.mid)
                self._joined_by = message.mid

    def _refuse(self, reason: str) -> None:
        with self._changed:
            self._refusal = reason
            self._changed.notify_all()


def _check_text(target: str, what: str, text: str) -> None:
    """Raise `ConfigError` if MQTT cannot send a text: paho's thread would end with a traceback."""
    try:
        is_sent = len(text.encode()) <= _LONGEST_TEXT and "\0" not in text
    except UnicodeEncodeError:
        is_sent = False
    if not is_sent:
        raise ConfigError(
            f"--publish {shortened(target, 200)}: "
            f"the {what} is longer than MQTT can send, or not text"
        )
