"""Options of a recording: one place for names, defaults, limits, and what the metadata says."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import pytest

from dgrec.errors import ConfigError
from dgrec.format import Durability, MaskMode
from dgrec.recorder.cli import record_command
from dgrec.recorder.options import (
    CHOICES,
    QUANTITIES,
    KeepOnly,
    QueuePolicy,
    RecordingOptions,
    SignalsChoice,
    VideoChoice,
    VideoPolicy,
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fps": 15.0, "every": 2}, "--every and --fps both leave frames out"),
        ({"keep_last": 60.0}, "--keep-last and --keep-total remove parts"),
        ({"split_every": 0.5}, "--split-every: 0.5 is too little; 1s is the least"),
        ({"stall_timeout": 1e6}, r"--stall-timeout: 1e\+06 is too much; 1d is the most"),
        ({"max_frames": 0}, "--max-frames: 0 is too little"),
        ({"max_frames": 10**400}, "--max-frames: 1000.* is not a whole number"),
        ({"duration": float("nan")}, "--duration: nan is not a number"),
        ({"video_quality": 101}, "--video-quality: 101 is too much; 100 is the most"),
        ({"video_size": (641, 360)}, "641x360: both numbers must be even"),
        ({"masks": "rough"}, "masks: 'rough' is not one of exact, bitmap"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecordingOptions(**given)


def test_the_words_are_those_of_the_types() -> None:
    types = {
        "masks": MaskMode,
        "durability": Durability,
        "policy": QueuePolicy,
        "video": VideoChoice,
        "video_policy": VideoPolicy,
        "signals": SignalsChoice,
        "keep_only": KeepOnly,
    }
    assert {name: get_args(words) for name, words in types.items()} == CHOICES
    assert {*CHOICES, *QUANTITIES} <= {each.name for each in fields(RecordingOptions)}


def test_the_command_has_every_option_with_its_default() -> None:
    given = record_command.make_context("record", []).params
    assert {each.name: given[each.name] for each in fields(RecordingOptions)} == {
        each.name: each.default for each in fields(RecordingOptions)
    }


def test_what_the_metadata_says() -> None:
    plain = RecordingOptions()
    assert plain.recorded(with_video=False) == {
        "stall_timeout": 10.0,
        "masks": "exact",
        "durability": "flush",
        "video": "auto",
    }
    options = RecordingOptions(split_every=600.0, loop=True, video="raw", video_size=(640, 360))
    assert options.recorded(with_video=True) == {
        "stall_timeout": 10.0,
        "masks": "exact",
        "durability": "flush",
        "split_every": 600.0,
        "video": "raw",
        "video_quality": 70,
        "video_size": (640, 360),
        "codec": "h264",
    }
