"""Changes that a target was sent, and those that it lacks: together all of them, each once."""

from __future__ import annotations

import io
import json
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.alerts import parse_rule
from dgrec.errors import OutputError
from dgrec.message import Message
from dgrec.publishing import Outgoing, PayloadOptions, Target, missed_messages_of, parse_target
from dgrec.recorder.outputs import Alerts, Publisher, later_delivery, output
from dgrec.recorder.outputs.newest_frame import NewestFrame
from dgrec.replay.publishing import publish
from tests.factory import make_detection
from tests.recorder.runs import Runs
from tests.waiting import PATIENCE_S, wait_until

CHANGES = PayloadOptions(only_changes=True)
CATS = [make_detection(0, label="cat")] * 3


class Refusing(Target):
    """Takes messages until it refuses one, and none after that."""

    name = "refusing"

    def __init__(self, refuses: Callable[[Message], bool]) -> None:
        super().__init__()
        self.taken: list[bytes] = []
        self.closed = 0
        self._refuses = refuses

    def send(self, message: Message) -> None:
        if self._refuses(message):
            raise OutputError("refusing: it refuses")
        self.taken.append(message.text)
        self._take(message.key)

    def close(self) -> None:
        self.closed += 1


class Made:
    """A recording with a target for each of its runs."""

    def __init__(
        self, path: Path, options: PayloadOptions = CHANGES, *, is_again: bool = False, **how: Any
    ) -> None:
        self.options = options
        self.refuses: Callable[[Message], bool] = lambda message: False
        self.refuses_again = self.refuses
        self.targets: list[Refusing] = []
        self.is_again = is_again
        self.runs = Runs(path, self._outputs, **how)

    def _outputs(self) -> Sequence[Publisher]:
        self.targets.append(Refusing(self.refuses))
        reopen = self._healthy if self.is_again else None
        return [Publisher(self.targets[-1], self.options, reopen=reopen)]

    def _healthy(self) -> Target:
        self.targets.append(Refusing(self.refuses_again))
        return self.targets[-1]

    def rest(self) -> list[Outgoing]:
        with dgrec.open(self.runs.path) as session:
            return [*missed_messages_of(session, "refusing").frames()]

    def kill(self) -> None:
        """Kill the run, half a second after its target has what it takes."""
        (queue,) = self.runs.writer.outputs
        assert isinstance(queue.output, Publisher)
        publisher = queue.output
        wait_until(lambda: queue.failure is not None or not publisher.missing)
        self.runs.kill()

    @property
    def live(self) -> list[bytes]:
        return [text for target in self.targets for text in target.taken]

    def check(self) -> tuple[int, int, list[bytes]]:
        """Return frames and left_out of the view, and the rest, which has to be what live lacks."""
        lines = self.runs.path.with_suffix(".jsonl")
        with dgrec.open(self.runs.path) as session:
            publish(session, [parse_target(str(lines))], self.options, speed=None)
            expected = lines.read_bytes().splitlines()
            found = [*missed_messages_of(session, "refusing").frames()]
            rest = [message.text for frame in found for message in frame.messages]
            (row,) = session.sql_rows("SELECT frames, delivered, left_out FROM targets")
        frames, delivered, left_out = row
        assert left_out == frames - delivered
        assert sorted([*self.live, *rest]) == sorted(expected)
        assert len({*expected}) == len(expected)
        assert [text for text in expected if text in {*rest}] == rest  # in order
        # Of a run that was killed, nobody counted what ended with it.
        uncounted = len(found) - left_out
        assert uncounted in range(1 + sum(frame.is_end for frame in found))
        return frames, left_out, rest


@pytest.mark.slow
@pytest.mark.parametrize("refused", [0, 1, 2])
def test_frames_of_a_target_that_died_are_those_with_changes(tmp_path: Path, refused: int) -> None:
    made = Made(tmp_path / "s.parquet")
    made.refuses = lambda message: len(made.live) == refused
    made.runs.begin()
    for number in range(30):  # six times another number of cats
        made.runs.frame(1, *CATS[: 1 + number // 5 % 3])
    made.runs.end()
    frames, left_out, _ = made.check()
    assert (frames, left_out) == (7, 7 - refused)  # the end is one more


@pytest.mark.slow
def test_frames_of_a_target_that_is_too_slow_are_those_with_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was too slow for has changed once, and is not said again of a later frame."""
    monkeypatch.setattr(Publisher, "capacity", 2)
    made = Made(tmp_path / "s.parquet", policy="drop-oldest")
    goes_on = threading.Event()
    made.refuses = lambda message: not goes_on.wait(PATIENCE_S)
    made.runs.begin()
    for number in range(30):
        made.runs.frame(1, *CATS[: 1 + number // 5 % 3])
    goes_on.set()
    made.runs.end()
    frames, left_out, _ = made.check()
    assert frames == 7
    assert left_out in (3, 4)


@pytest.mark.parametrize("is_again", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_what_ended_at_the_end_is_sent_once(tmp_path: Path, count: int, is_again: bool) -> None:
    """By --missing or --publish-later; the last frame had changes of its own, or had none."""
    made = Made(tmp_path / "s.parquet", is_again=is_again)
    made.refuses = lambda message: "-end-" in message.key
    made.runs.begin()
    for _ in range(count):
        made.runs.frame(1, CATS[0], make_detection(1, label="dog"))
    made.runs.end()
    frames, left_out, rest = made.check()
    assert (frames, left_out, len(rest)) == ((2, 0, 0) if is_again else (2, 1, 2))
    assert len(made.live) == (4 if is_again else 2)
    missing = made.runs.writer.targets.undelivered(made.runs.path)
    assert [line.partition(":")[0] for line in missing] == (
        [] if is_again else ["refusing did not get 1 frame"]
    )


@pytest.mark.slow
def test_each_run_has_ends_of_its_own(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.parquet")
    for kind in ("refused", "taken", "killed", "nothing"):
        made.refuses = lambda message, kind=kind: kind == "refused" and "-end-" in message.key
        made.runs.begin()
        for _ in range(3):
            made.runs.frame(1, *([] if kind == "nothing" else CATS[:1]))
        if kind == "killed":
            made.kill()
        else:
            made.runs.end()
        made.runs.now_ns += 10**10
    frames, left_out, rest = made.check()
    assert (frames, left_out, len(rest)) == (5, 1, 2)


def refuse_after(made: Made, count: int) -> Callable[[Message], bool]:
    """Refuse the messages of a frame, all of them: what it has of them would be sent again."""
    last = len(made.live) + count
    return lambda message: len(made.live) >= last and message.key.endswith("-1")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_killed", [False, True])
def test_the_end_of_an_earlier_run_is_delivered_later(tmp_path: Path, is_killed: bool) -> None:
    made = Made(tmp_path / "s.parquet")
    made.refuses = lambda message: "-end-" in message.key
    made.runs.begin()
    made.runs.frame(1, *CATS)
    if is_killed:
        made.kill()
    else:
        made.runs.end()
    made.is_again = True
    made.refuses = lambda message: True
    made.runs.begin()
    made.runs.frame(1, *CATS)
    made.runs.end()
    assert made.check() == (4, 0, [])


@pytest.mark.parametrize("found", [range(0), range(20, 23)])
def test_only_frames_that_are_kept_can_be_had_later(tmp_path: Path, found: range) -> None:
    path = tmp_path / "s.parquet"
    outputs = [
        Alerts([parse_rule("seen=count() > 0")]),
        Publisher(Refusing(lambda message: True), PayloadOptions()),
    ]
    with dgrec.Recorder(path, outputs=outputs, only_on_alert=True, before=0, after=0) as recorder:
        for number in range(40):
            recorder.add(CATS if number in found else [])
    with dgrec.open(path) as session:
        rest = [*missed_messages_of(session, "refusing").frames()]
    said = [line.partition(":")[0] for line in recorder.notes if "did not get" in line]
    assert said == ([f"refusing did not get {len(rest)} frames"] if rest else [])
    assert len(found) <= len(rest) < 40


@pytest.mark.slow
def test_frames_of_parts_that_were_removed_cannot_be_had_later(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    made = Made(path, PayloadOptions(), split_every=1.0, keep_last=2.0)
    made.refuses = lambda message: True
    made.runs.begin()
    for _ in range(100):
        made.runs.frame(1)
        made.runs.now_ns += 10**8
    made.runs.end()
    rest = made.rest()
    assert 0 < len(rest) < 100
    (line,) = made.runs.writer.targets.undelivered(path)
    assert line.startswith(f"refusing did not get {len(rest)} frames: ")


def test_a_page_counts_what_a_target_that_died_lacks(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.parquet", PayloadOptions())
    made.refuses = lambda message: len(made.live) == 5
    newest = NewestFrame(made.runs.path)
    runs = Runs(made.runs.path, lambda: [*made._outputs(), newest])
    runs.begin()
    for _ in range(30):
        runs.frame(1)
    wait_until(lambda: newest.targets()[0]["problem"] != "")
    (target,) = newest.targets()
    assert (target["delivered"], target["left_out"]) == (5, 25)
    runs.end()


@pytest.mark.usefixtures("impatient")
def test_what_is_delivered_later_of_earlier_runs_is_not_of_this_one(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.parquet", PayloadOptions(form="full"), is_again=True)
    made.refuses = lambda message: True
    made.runs.begin()
    for _ in range(3):
        made.runs.frame(1)
    made.kill()
    made.runs.begin()
    for _ in range(3):
        made.runs.frame(1)
    made.refuses_again = lambda message: len(made.live) == 4
    made.runs.end()
    assert len(made.live) == 4
    (line,) = made.runs.writer.targets.undelivered(made.runs.path)
    assert line.startswith("refusing did not get 2 frames: ")
    assert [frame.source_frame for frame in made.rest()] == [4, 5]
    assert [target.closed for target in made.targets] == [1, 1, 1]


def test_each_run_may_publish_something_else(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.parquet")
    made.refuses = lambda message: True
    is_published = True
    runs = Runs(made.runs.path, lambda: made._outputs() if is_published else [])
    for each in (PayloadOptions(), CHANGES, None, PayloadOptions(form="full", every=2)):
        is_published = each is not None
        made.options = each or CHANGES
        runs.begin()
        for _ in range(3):
            runs.frame(1, *CATS)
        runs.end()
        runs.now_ns += 10**10
    sent = [
        (frame.source_frame, *json.loads(message.text))
        for frame in made.rest()
        for message in frame.messages
    ]
    assert [(number, keys[1]) for number, *keys in sent] == [
        *((number, "detections") for number in range(3)),
        *((number, "session") for number in (3, 5, 10)),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_random_recordings_are_delivered_once(tmp_path: Path) -> None:
    missed = 0
    for seed in range(15):
        chance = random.Random(seed)
        options = PayloadOptions(
            only_changes=True,
            every=chance.choice((1, 1, 3)),
            ended_after=chance.choice((0.0, 2.5)),
            where=chance.choice(("", "label != 'dog'")),
        )
        split = chance.choice((3600.0, 5.0))
        is_again = chance.random() < 0.3
        made = Made(tmp_path / f"{seed}.parquet", options, is_again=is_again, split_every=split)
        for _ in range(chance.randrange(1, 4)):
            made.refuses = refuse_after(made, chance.choice((10**6, chance.randrange(12))))
            made.runs.begin()
            for _ in range(chance.randrange(1, 12)):
                found = [make_detection(0, label=each) for each in ("cat", "dog", "cow")]
                made.runs.frame(1, *(each for each in found if chance.random() < 0.7))
            if chance.random() < 0.3:
                made.kill()
            else:
                made.runs.end()
            made.runs.now_ns += 10**10
        missed += len(made.check()[2])
    assert missed > 20


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_PATIENCE_IN_A_HURRY_S", 1.0)
    monkeypatch.setattr(later_delivery, "_PATIENCE_S", 1.0)


@pytest.mark.slow
def test_targets_of_a_recording_of_moments_count_its_rows(tmp_path: Path) -> None:
    """Frames that are not kept count for nothing, and each third frame is due, kept or not."""
    made = Made(tmp_path / "s.parquet", PayloadOptions(form="full", every=3))
    rule = parse_rule("cats=count('cat') > 0")
    runs = Runs(
        made.runs.path,
        lambda: [Alerts([rule]), *made._outputs()],
        only_on_alert=True,
        before=3.0,
        after=2.0,
    )
    made.refuses = lambda message: len(made.live) == 9
    runs.begin()
    for number in range(60):
        runs.frame(1, *(CATS[:1] if 20 <= number < 31 or 40 <= number < 45 else []))
    runs.end()
    with dgrec.open(runs.path) as session:
        numbers = [result.row["source_frame"] for result in session]
        (row,) = session.sql_rows("SELECT frames, delivered, left_out FROM targets")
        found = [frame.source_frame for frame in missed_messages_of(session, "refusing").frames()]
    assert numbers == [*range(17, 34), *range(37, 48)]
    due = [number for number in numbers if number % 3 == 0]
    assert found == [number for number in due if number >= 27]
    assert row == (len(due), len(due) - len(found), len(found))


def test_a_target_that_is_being_given_up_can_still_be_hurried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second Ctrl-C while it closes must not end the process: the session is not sealed yet."""
    is_sending, is_closing, may_close = (threading.Event() for _ in range(3))

    class Slow(Target):
        def close(self) -> None:
            is_closing.set()
            may_close.wait()

    class Stuck:
        name, delivered = "stuck", 0

        def open_again(self) -> Target:
            return Slow()

        def send_again(self, frame: Any) -> None:
            is_sending.set()
            may_close.wait()

    class Missed:
        def frames(self) -> list[int]:
            return [1]

    monkeypatch.setattr(later_delivery, "missed_messages_of", lambda *_: Missed())
    delivery = later_delivery.LaterDelivery([Stuck()], io.BytesIO, "id")  # type: ignore
    running = threading.Thread(target=delivery.run, args=(lambda: None,))
    running.start()
    is_sending.wait(PATIENCE_S)
    ending = threading.Thread(target=delivery.give_up)
    ending.start()
    is_closing.wait(PATIENCE_S)
    assert delivery.give_up()
    may_close.set()
    ending.join()
    running.join()
    assert not delivery.give_up()
