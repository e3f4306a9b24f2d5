"""Sessions of one group: those of sources that are recorded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dgrec.clock import Clock
from dgrec.errors import ConfigError
from dgrec.format import Metadata, uuid7
from dgrec.recorder.destination import output_path

if TYPE_CHECKING:
    from dgrec.recorder.job import Plan, RecordRequest

#: The resolution of stamps.
_STAMP_NS = 1000


@dataclass(frozen=True)
class Group:
    """Sessions that are recorded together."""

    clock: Clock
    #: The ``group`` in the metadata of each session.
    description: Metadata


def check_apart(plans: Sequence[Plan]) -> None:
    """Raise `ConfigError` if two sources would be recorded to one file, as ``a/x.mp4`` and
    ``b/x.mp4`` would.
    """
    by_output: dict[Path, Plan] = {}
    for plan in plans:
        other = by_output.setdefault(plan.output, plan)
        if other is not plan:
            raise ConfigError(
                f"{other.source.given} and {plan.source.given} would both be recorded to "
                f"{plan.output}; give them names under [sources] in dgrec.toml, or record them "
                "apart, with an --output each"
            )


def make_group(plans: Sequence[Plan], request: RecordRequest) -> Group | None:
    """Return what the sessions of ``--together`` share; None without it.

    Raises:
        ConfigError: They continue different groups.
    """
    if not request.together:
        return None
    names = [plan.output.name for plan in plans]
    earlier = [plan.earlier for plan in plans]
    groups = [(each.metadata or {}).get("group", {}) for each in earlier]
    ids = {group["id"] for group in groups if group.get("id")}
    if len(ids) > 1:
        raise ConfigError("--together: the parts to be continued were not recorded together")
    default, given = plans[0].output.stem, request.output
    if given is not None and not given.is_dir():
        default = output_path(Path(given.stem), "", request.moment).name
    name = default.strip("-_. ") or plans[0].output.stem
    clock = Clock(after_ns=max((each.completed_ns for each in earlier), default=0) + _STAMP_NS)
    return Group(clock, {"id": ids.pop() if ids else str(uuid7()), "name": name, "members": names})
