"""What Hydra, OmegaConf and argparse complain of, as one line with key, value, what is allowed and the nearest name."""

import re
from collections.abc import Callable, Sequence

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue

from mbtrain.config.nearest import nearest

SHOWS_ALL = "mbtrain --cfg job shows all"
_NOISE = ("reference_type", "object_type", "See https", "full_key", "Config search path", "provider=")


def one_line(
    error: BaseException, *, keys: Sequence[str] = (), choices_with: Callable[[str], Sequence[str]] = lambda key: ()
) -> str:
    """The error as one line; `keys` are those that there are, `choices_with` names the choices that have a key."""
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    cause = error.__cause__
    if cause is not None and not str(error).strip():
        return one_line(cause, keys=keys, choices_with=choices_with)
    return _known_complaint(str(error).strip(), keys, choices_with) or _first_lines(error)


def unknown_option(message: str, known: Sequence[str]) -> str:
    """What argparse complains of, in our words.

    >>> unknown_option("unrecognized arguments: --batch.size=3", ["--help"])
    '--batch.size=3: keys have no dashes before them: write batch.size=3'
    """
    if match := re.fullmatch(r"unrecognized arguments: (\S+).*", message, re.S):
        word = match[1]
        hint = nearest(word.split("=")[0], known)
        if "=" in word and not hint:
            return f"{word}: keys have no dashes before them: write {word.lstrip('-')}"
        return f"{word}: no such option{hint}; mbtrain --help tells of all"
    if match := re.fullmatch(r"argument ([^/:]+)\S*: invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
        return f"{match[1]}={match[2]}: choose from {match[3].replace(chr(39), '')}"
    return message.replace("argument ", "", 1)


def _missing_file(error: MissingConfigException) -> str:
    file = error.missing_cfg_file or str(error)
    group, _, choice = file.rpartition("/")
    if not group:
        return f"--config-name={file}: there is no {file}.yaml in --config-dir or among the shipped ones"
    options = list(error.options or ())
    if not options:
        return f"{group}={choice}: no such choice; a file {group}/{choice}.yaml below --config-dir would be one"
    return f"{group}={choice}: no such choice{nearest(choice, options)}; choose from {', '.join(options)}"


def _unreadable(error: OverrideParseException) -> str:
    if "missing EQUAL" in error.message:
        return f"{error.override}: is no key=value: write {error.override}=VALUE"
    return f"{error.override}: cannot be read: values with spaces, commas, brackets, braces or = are 'quoted' in it"


def _known_complaint(text: str, keys: Sequence[str], choices_with: Callable[[str], Sequence[str]]) -> str | None:
    if match := re.match(r"Could not override '([^']+)'\.?(?:\nTo append to your config use \+(.*))?", text):
        given = match[2] or match[1]
        if having := choices_with(match[1]):
            return f"{given}: no such key here; it goes with {' or '.join(having)}"
        return f"{given}: no such key{nearest(match[1], keys)}; {SHOWS_ALL}"
    if match := re.match(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"+{match[1]}: is there already: write {match[1]}=VALUE, without the +"
    if match := re.match(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{match[1]}: no such key{nearest(match[1], keys)}; {SHOWS_ALL}"
    if match := re.match(r"Ambiguous value for argument '([^'=]+)=(.*)'", text):
        key, values = match[1], match[2]
        return f"{key}={values}: is several values: add -m for a sweep over them, or write a list, {key}=[{values}]"
    if match := re.match(r"Error merging override (.*)", text):
        return f"{match[1]}: does not fit there: a mapping, a list and a single value cannot replace one another"
    if "does not support sweep type" in text:
        return f"-m: {text}: list the values, or give range(1,5)"
    return None


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = re.sub(r"\s+", " ", "; ".join(line for line in lines if not line.startswith(_NOISE)))
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), None)
    if isinstance(error, MissingMandatoryValue):
        return f"{key}=???: needs a value"
    return f"{key}: {said}" if key else said or type(error).__name__
