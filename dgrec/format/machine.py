"""The load of the machine while a session was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dgrec.format.metadata import Metadata

#: The processors count as full at this share.
_FULL = 0.9
#: A recording that uses no more than this share of them is not what fills them.
_HARDLY = 0.5


@dataclass(frozen=True)
class MachineLoad:
    """The load of the machine's processors, from the metadata; None where it is not known.

    Args:
        cores: How many the recorder could use.
        busy: The share of their total time that was used by anything, 0 to 1.
        seconds: For how long that was measured.
        used_cores: How many the recording used, on average; None if others were recorded as well.
    """

    cores: float | None
    busy: float | None
    seconds: float | None
    used_cores: float | None

    @classmethod
    def of(cls, metadata: Metadata) -> MachineLoad:
        machine = metadata.get("machine")
        facts = machine if isinstance(machine, dict) else {}
        seconds, own, children = map(
            _number, map(facts.get, ("seconds", "process_cpu_s", "children_cpu_s"))
        )
        used = None
        if seconds and own is not None and facts.get("sources", 1) == 1:
            used = (own + (children or 0.0)) / seconds
        return cls(_number(facts.get("cores")), _number(facts.get("system_busy")), seconds, used)

    @property
    def is_full(self) -> bool:
        """Return whether the recording alone filled the processors."""
        return bool(self.cores and self.used_cores and self.used_cores >= _FULL * self.cores)

    @property
    def other_work(self) -> str | None:
        """A clause that says how other work filled the processors; None: it did not."""
        if not self.cores or self.busy is None or self.used_cores is None:
            return None
        if self.busy < _FULL or self.used_cores > _HARDLY * self.cores:
            return None
        return (
            f"busy with other work: {self.busy:.0%} of all its processor time was used, "
            f"{self.used_cores:.1f} of {self.cores:g} cores by this recording"
        )


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < 1e15 else None
