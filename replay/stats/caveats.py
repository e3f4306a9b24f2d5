"""Reasons why the numbers of a session may cover less than they seem, or something else."""

from __future__ import annotations

from collections.abc import Iterator

from dgrec.format import cuts_of, is_being_written
from dgrec.session import Session
from dgrec.units import and_more

#: Unintended ends of recordings.
_ENDED_EARLY = {
    "source_lost": "the source was lost",
    "disk_full": "there was no room left",
    "failed": "it failed",
    "incomplete": "the source is incomplete",
}


def caveats(session: Session) -> tuple[str, ...]:
    """Return sentences: why numbers cover less than they seem, or something else."""
    # Some of it is text of the session, which must not steer a terminal.
    return tuple(
        "".join(character if character.isprintable() else " " for character in sentence)
        for sentence in _caveats(session)
    )


def moments(session: Session) -> int:
    """Return from how many places of a recording the session was cut; 1 if it was not."""
    return len(cuts_of(session.metadata)) + 1


def _caveats(session: Session) -> Iterator[str]:
    metadata = session.metadata
    damage = session.damage
    if damage:
        shown = and_more(damage, "more: dgrec info")
        yield f"Not all can be read: {shown}. Every number is of the rest."
    lost = metadata.get("clip", {}).get("damage")
    if lost:
        yield f"Cut from a damaged session: {lost[0]}{' (and more)' if len(lost) > 1 else ''}."
    reason, detail = metadata.get("end_reason"), metadata.get("end_detail")
    if reason in _ENDED_EARLY:
        why = f" ({detail})" if detail else ""
        yield f"The recording ended early: {_ENDED_EARLY[reason]}{why}."
    elif reason == "recovered" or (reason is None and not metadata.get("ended_at")):
        if _is_being_recorded(session):
            yield "Still being recorded: every number is of what was there when it was read."
        else:
            yield (
                "The recorder was cut off before it ended the recording: what it had in memory "
                "(less than a second) is lost."
            )
    count = moments(session)
    if count > 1 and session.parts:
        yield (
            f"Parts were removed as asked for (--keep-only), which leaves {count:,} stretches: "
            "rates, intervals and stalls go across the gaps between them."
        )
    elif count > 1:
        yield (
            f"A clip of {count:,} moments: rates, intervals and stalls go across the cuts between "
            "them."
        )


def _is_being_recorded(session: Session) -> bool:
    if session.parts:
        return any(not part.sealed and is_being_written(part.place) for part in session.parts)
    return not session.sealed and is_being_written(session.place)
