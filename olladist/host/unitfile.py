"""systemd unit files as text: what they say of a service, and lines that say what we mean (systemd.syntax(7))."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# The table of systemd.syntax(7), section Quoting.
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_HEX = re.compile(r"x([0-9a-fA-F]{2})|([0-3][0-7]{2})")
_SPACE = " \t\n\r"


@dataclass(slots=True)
class Service:
    """The [Service] section of a unit after its files were read in order."""

    binary: str = ""
    user: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    environment_files: list[str] = field(default_factory=list)


def read_service(files: Iterable[str]) -> Service:
    """What unit file and drop-ins say together: later settings win, an empty one takes back what came before."""
    service = Service()
    for text in files:
        for key, value in _settings(text):
            if key == "User":
                service.user = value
            elif key == "ExecStart":
                words = split_words(value)
                service.binary = words[0].lstrip("-@:+!|") if words else ""
            elif key == "EnvironmentFile":
                service.environment_files = [*service.environment_files, value.removeprefix("-")] if value else []
            elif key == "Environment":
                _assign(service.environment, value)
    return service


def _assign(environment: dict[str, str], value: str) -> None:
    if not value:
        environment.clear()
    for word in split_words(value):
        name, equals, content = word.partition("=")
        if equals:
            environment[name] = content.replace("%%", "%")


def _settings(text: str) -> Iterable[tuple[str, str]]:
    section, pending = "", ""
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue  # also between the lines of a continued setting
        line = pending + line
        if line.endswith("\\"):
            pending = line[:-1] + " "
            continue
        pending = ""
        if line.startswith("[") and line.endswith("]"):
            section = line
        elif section == "[Service]" and "=" in line:
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()


def split_words(text: str) -> list[str]:
    """Words as systemd splits them: quotes group, backslashes escape; an unclosed quote ends with the text."""
    words: list[str] = []
    word, quote, begun, at = "", "", False, 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\" and at < len(text):
            literal, length = _unescape(text[at : at + 3])
            word, begun, at = word + literal, True, at + length
        elif quote:
            if char == quote:
                quote = ""
            else:
                word += char
        elif char in "\"'":
            quote, begun = char, True
        elif char in _SPACE:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + char, True
    return [*words, word] if begun else words


def _unescape(text: str) -> tuple[str, int]:
    if code := _HEX.match(text):
        value = int(code[1], 16) if code[1] else int(code[2], 8)
        return chr(value), code.end()
    return _ESCAPES.get(text[0], text[0]), 1


def quoted(text: str) -> str:
    """One word of a setting, in double quotes; no % of it is a specifier and no control character ends the line."""
    out = []
    for char in text.replace("%", "%%"):
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif char < " " or char == "\x7f":
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def command(path: str, *words: str) -> str:
    """The value of an ExecStart=; there, unlike in Environment=, a $ would name a variable."""
    return " ".join(quoted(word).replace("$", "$$") for word in (path, *words))


def environment_lines(environment: Mapping[str, str]) -> list[str]:
    return [f"Environment={quoted(f'{name}={value}')}" for name, value in sorted(environment.items())]
