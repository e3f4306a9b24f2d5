"""The introduction of a recording to Home Assistant, through a broker (MQTT discovery).

A retained message describes a device with its sensors; Home Assistant 2024.11 and later adds it by
itself. https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery has the format.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dgrec.publishing.messages import PayloadOptions
from dgrec.publishing.payload import json_message
from dgrec.version import __version__

#: The topics that Home Assistant listens to, unless it is set up otherwise.
_PREFIX: Final = "homeassistant"
ONLINE, OFFLINE = b"online", b"offline"
ON, OFF = b"ON", b"OFF"
_LONGEST_ID: Final = 40


@dataclass(frozen=True)
class Device:
    """A recording as a device.

    Args:
        name: Of its source.
        model: The name of the model.
        alerts: The names of its rules.
        options: Options of what is published.
    """

    name: str
    model: str = ""
    alerts: tuple[str, ...] = ()
    options: PayloadOptions = field(default_factory=PayloadOptions)

    def discovery(self, topic: str) -> tuple[str, bytes]:
        """Return the topic and payload that describe it.

        Args:
            topic: Where its messages go.
        """
        own = f"dgrec_{_identifier(topic)}"
        payload = {
            "device": {
                "identifiers": [own],
                "name": self.name or "dgrec",
                "manufacturer": "dgrec",
                **({"model": self.model} if self.model else {}),
                "sw_version": __version__,
            },
            "origin": {"name": "dgrec", "sw_version": __version__},
            "availability_topic": f"{topic}/status",
            "payload_available": ONLINE.decode(),
            "payload_not_available": OFFLINE.decode(),
            "components": {
                key: {"unique_id": f"{own}_{key}", **component}
                for key, component in self._components(topic).items()
            },
        }
        return f"{_PREFIX}/device/{own}/config", json_message(payload)

    def alert_topics(self, topic: str) -> Mapping[str, str]:
        """Return where the state of each alert is published, `ON` or `OFF` (retained)."""
        return {name: f"{topic}/alerts/{_identifier(name)}" for name in self.alerts}

    def _components(self, topic: str) -> dict[str, Mapping[str, Any]]:
        measured = {"platform": "sensor", "state_topic": topic, "state_class": "measurement"}
        if self.options.only_changes:
            shown = {"name": "Objects", "value_template": "{{ value_json.objects }}"}
        else:
            shown = {"name": "Detections", "value_template": "{{ value_json.detections | count }}"}
        components: dict[str, Mapping[str, Any]] = {
            "detections": {**measured, **shown, "icon": "mdi:shape-outline"}
        }
        if self.options.form == "full":
            components["latency"] = {
                **measured,
                "name": "Latency",
                "value_template": "{{ value_json.latency_ms }}",
                "device_class": "duration",
                "unit_of_measurement": "ms",
                "entity_category": "diagnostic",
            }
        for name, state_topic in self.alert_topics(topic).items():
            components[f"alert_{_identifier(name)}"] = {
                "platform": "binary_sensor",
                "name": name,
                "state_topic": state_topic,
                "payload_on": ON.decode(),
                "payload_off": OFF.decode(),
                "icon": "mdi:bell-alert",
            }
        return components


def _identifier(text: str) -> str:
    """Return letters, digits and underscores that stand for a text and no other."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:_LONGEST_ID]
    return f"{readable}_{zlib.crc32(text.encode(errors='replace')):08x}".lstrip("_")
