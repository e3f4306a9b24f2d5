"""Rules of degirum_tools' EventDetector, as files of YAML describe them.

degirum_tools itself says at which frames an event is detected; an alert lasts from the first of
them to the first frame at which it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from dgrec.alerts.condition import LONGEST
from dgrec.alerts.detections import number_of
from dgrec.alerts.rule import Rule, parse_rule
from dgrec.analyzers import recorded_time
from dgrec.arguments import check_text
from dgrec.errors import ConfigError, DgrecError, first_line

_SUFFIXES: Final = (".yaml", ".yml")
_LARGEST_FILE: Final = 2**20
#: The attribute of a result that a metric needs, and the analyzer that adds it.
ADDED: Final = {
    "ZoneCount": ("zone_counts", "ZoneCounter"),
    "LineCount": ("line_counts", "LineCounter"),
}
_TIMES: Final = ("during", "for at least", "for at most")


@dataclass(frozen=True)
class EventRule(Rule):
    """An event of an EventDetector.

    Args:
        metric: What it compares: ``ObjectCount``, ``ZoneCount`` or ``LineCount``.
    """

    metric: str = ""

    def detector(self) -> Any:
        """Return a new EventDetector, which has seen no frame.

        Raises whatever degirum_tools and jsonschema raise on what is not an event.
        """
        import yaml
        from degirum_tools import EventDetector

        return EventDetector({"Trigger": self.name, **yaml.safe_load(self.text)})

    @property
    def labels(self) -> frozenset[str]:
        import yaml

        chosen = yaml.safe_load(self.text).get("with") or {}
        classes = chosen.get("classes") if isinstance(chosen, Mapping) else None
        return frozenset(map(str, classes if isinstance(classes, list) else []))

    @property
    def needed_analyzer(self) -> str | None:
        """The class of degirum_tools without which there is nothing to count."""
        return ADDED[self.metric][1] if self.metric in ADDED else None


class EventCondition:
    """Follows an event over the frames of one recording, in their order."""

    def __init__(self, rule: EventRule) -> None:
        self._rule = rule
        self._detector = rule.detector()

    def holds(self, completed_us: int, results: Any, added: Mapping[str, Any]) -> bool:
        """Return whether the event is detected at the next frame.

        Args:
            results: The detections.
            added: The counts of ZoneCounter and LineCounter for the frame.

        Raises:
            DgrecError: That cannot be known: the frame is left out.
        """
        attribute, analyzer = ADDED.get(self._rule.metric, ("", ""))
        if attribute and attribute not in added:
            raise DgrecError(f"{analyzer} has not seen the frame (--analyzers; docs/alerts.md)")
        frame = SimpleNamespace(results=list(map(_known, _items(results))), **added)
        try:
            with recorded_time(completed_us * 1000):
                self._detector.analyze(frame)
        except Exception as error:  # such as a zone that does not exist
            raise DgrecError(first_line(error)) from None
        return bool(frame.events_detected)


def _items(results: Any) -> list[Any]:
    return results if isinstance(results, list) else []


def _known(item: Any) -> dict[str, Any]:
    """Return label and score of a detection, in the types that a recording has."""
    if not isinstance(item, Mapping):
        return {}
    found: dict[str, Any] = {}
    if isinstance(label := item.get("label"), str):
        found["label"] = label
    if (score := number_of(item.get("score"))) is not None:
        found["score"] = score
    return found


# --- reading ---


def parse_rules(given: Sequence[Rule | str]) -> list[Rule]:
    """Return the rules of ``--alert``: each text is one, or a file of events.

    A file holds one event, a list of them, or several documents of YAML.

    Raises:
        ConfigError: One is not a rule, a file cannot be read, or two have the same name.
    """
    rules: list[Rule] = []
    for each in given:
        if isinstance(each, Rule):
            rules.append(each)
            continue
        check_text("a rule", each)
        if each.lower().endswith(_SUFFIXES):  # as no rule ends
            rules += _events_of(Path(each))
        else:
            rules.append(parse_rule(each))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--alert: two rules have the name {name!r}")
    return rules


def _events_of(path: Path) -> list[EventRule]:
    rules = [_rule(path, number, each) for number, each in enumerate(_descriptions(path), 1)]
    if not rules:
        raise ConfigError(f"--alert {path}: describes no event")
    return rules


def _descriptions(path: Path) -> Iterator[Any]:
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ConfigError(f"--alert {path}: is larger than a file of rules (1 MiB)")
        documents = list(yaml.safe_load_all(content.decode("utf-8-sig")))
    except OSError as error:
        raise ConfigError(f"--alert {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--alert {path}: is not text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ConfigError(f"--alert {path}: {line}not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--alert {path}: not YAML: {first_line(error)}") from None
    for document in documents:
        if isinstance(document, list):
            yield from document
        elif document is not None:
            yield document


def _rule(path: Path, number: int, description: Any) -> EventRule:
    where = f"--alert {path}: event {number}"
    if not isinstance(description, dict):
        raise ConfigError(f"{where}: expected an event of EventDetector, with Trigger and when")
    name = description.get("Trigger")
    if not isinstance(name, str) or not (0 < len(name) <= 100 and name.isprintable()):
        raise ConfigError(f"{where}: Trigger: expected a name of up to 100 letters")
    where = f"--alert {path}: {name}"
    if description.get("when") == "CustomMetric":
        raise ConfigError(f"{where}: CustomMetric is a function of a program, not of a file")
    _check_numbers(where, description)
    try:
        rule = EventRule(
            name=name,
            text=_text(description),
            lasting_s=0.0,
            missing_s=0.0,
            values=frozenset(),
            metric=str(description.get("when")),
        )
        rule.detector()
    except Exception as error:  # jsonschema's errors have a message in one line
        reason = getattr(error, "message", None) or first_line(error)
        raise ConfigError(f"{where}: {str(reason)[:200]}") from None
    if len(rule.text) > LONGEST:
        raise ConfigError(f"{where}: is longer than {LONGEST:,} characters")
    return rule


def _check_numbers(where: str, description: Mapping[str, Any]) -> None:
    """Refuse mistakes that the schema lets pass, or reports in a way that nobody understands."""
    from degirum_tools import EventDetector

    if sum(key in EventDetector.comparators for key in description) != 1:
        raise ConfigError(f"{where}: needs one comparison, such as 'is greater than: 0'")
    for key in _TIMES:
        value = description.get(key, [1, "frame"])
        if not isinstance(value, list) or len(value) != 2:
            raise ConfigError(f"{where}: {key}: expected a number and a unit, such as [5, frames]")


def _text(description: Mapping[str, Any]) -> str:
    """Return an event in one line of YAML, without its name."""
    import yaml

    rest = {key: value for key, value in description.items() if key != "Trigger"}
    text: str = yaml.safe_dump(
        rest, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9
    )
    return text.strip()
