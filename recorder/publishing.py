"""The request of ``dgrec record`` to publish: its targets and messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path

from dgrec.credentials import redact
from dgrec.errors import ConfigError
from dgrec.publishing import (
    Device,
    PayloadForm,
    PayloadOptions,
    TargetAddress,
    check_discovery,
    check_target,
    open_target,
    parse_target,
)
from dgrec.recorder.outputs import AlertFeed, Publisher


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """The targets of a recording's messages, and what the messages hold.

    Args:
        publish: The targets: ``-`` is stdout.
        payload: What is sent for a frame.
        payload_where: A condition over detections that are published.
        publish_every: One of this many frames is published.
        only_changes: Publish what appears, changes and ends instead of frames.
        ended_after: How many seconds something may be out of sight before it has ended.
        publish_wait: Wait for any target, where the source can wait.
        publish_later: At the end, send targets what they did not get.
        mqtt_discovery: Introduce the recording to Home Assistant, at each broker.

    Raises:
        ConfigError: A target cannot be used, or two of them exclude each other.
    """

    publish: tuple[str, ...] = ()
    payload: PayloadForm = "guide"
    payload_where: str = ""
    publish_every: int = 1
    only_changes: bool = False
    ended_after: float = 0.0
    publish_wait: bool = False
    publish_later: bool = False
    mqtt_discovery: bool = False

    def __post_init__(self) -> None:
        addresses = self.addresses
        if not addresses and (flag := self._first_given()):
            raise ConfigError(f"{flag} belongs to --publish")
        for text, count in Counter(self.publish).items():
            if count > 1:
                raise ConfigError(f"--publish {redact(text)} is given twice")
        self._check_clients(addresses)
        if self.publish_later and all(address.is_served for address in addresses):
            raise ConfigError(
                "--publish-later belongs to --publish with a file, a broker or a web server: "
                "clients of ws:// and sse:// are gone at the end"
            )
        if self.mqtt_discovery:
            check_discovery(addresses)
        assert self.options  # making them raises what is wrong with them

    @staticmethod
    def _check_clients(addresses: Sequence[TargetAddress]) -> None:
        """Raise `ConfigError` for two clients of one name: their broker would disconnect each for
        the other, without end.
        """
        named: dict[tuple[str, int, str], TargetAddress] = {}
        for address in addresses:
            if name := address.option("client_id"):
                first = named.setdefault((address.host, address.port, name), address)
                if first is not address:
                    raise ConfigError(
                        f"--publish {address.given}: has the client_id of {first.given}, and a "
                        "broker keeps only one client of a name"
                    )

    def _first_given(self) -> str:
        """Return the first option that says how to publish, or ""."""
        given = (each.name for each in fields(self) if getattr(self, each.name) != each.default)
        return next((f"--{name.replace('_', '-')}" for name in given), "")

    @cached_property  # logins are read once
    def addresses(self) -> list[TargetAddress]:
        return [parse_target(text) for text in self.publish]

    @cached_property
    def options(self) -> PayloadOptions:
        return PayloadOptions(
            form=self.payload,
            every=self.publish_every,
            where=self.payload_where,
            only_changes=self.only_changes,
            ended_after=self.ended_after,
        )

    def check_several(self) -> None:
        """Raise `ConfigError` if sources that are recorded at once cannot share a target."""
        for address in self.addresses:
            if not address.scheme:
                raise ConfigError(f"--publish {address.given} takes one source only")
            if address.option("client_id"):
                raise ConfigError(
                    f"--publish {address.given}: client_id takes one source only, since a broker "
                    "keeps only one client of a name"
                )
            is_broker = address.scheme.startswith("mqtt")
            if self.mqtt_discovery and is_broker and "{" not in address.path:
                raise ConfigError(
                    f"--publish {address.given}: with --mqtt-discovery each source needs a topic "
                    "of its own: put {source} into it"
                )

    def check_files(self, output: Path) -> None:
        """Raise `OutputError` if a file cannot be published to while ``output`` is recorded."""
        for address in self.addresses:
            if not address.scheme:
                check_target(address.path, output)

    def publishers(
        self,
        names: Mapping[str, str],
        *,
        model: str,
        rules: tuple[str, ...],
        alerts: AlertFeed,
        can_wait: bool,
    ) -> list[Publisher]:
        """Return an output for each target.

        Args:
            names: ``source`` and ``session``.
            model: The name of the model.
            rules: The names of rules.
            can_wait: Whether the source can wait.

        Raises:
            DgrecError: A target cannot be opened.
        """
        device = None
        if self.mqtt_discovery:
            device = Device(names["source"], model, rules, self.options)
        waits = self.publish_wait and can_wait
        return [
            Publisher(
                open_target(address, names, waits=waits, device=device),
                self.options,
                alerts=alerts if rules else None,
                waits=self.publish_wait,
                # Clients of a target that is served here are gone at the end.
                reopen=(
                    partial(open_target, address, names, device=device)
                    if self.publish_later and not address.is_served
                    else None
                ),
            )
            for address in self.addresses
        ]
