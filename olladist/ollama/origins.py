"""OLLAMA_ORIGINS: what Ollama takes for an origin that browsers may call from. Pure."""

from typing import Final

# gin-contrib/cors, with Ollama's AllowBrowserExtensions.
_SCHEMES: Final = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)


def check_origin(pattern: str) -> str:
    """What is wrong with an entry, in words that follow its name; "" where nothing is. An Ollama does not start with a wrong one."""
    if pattern.count("*") > 1:
        return "has more than one *"
    if not pattern.isascii() or not pattern.isprintable() or " " in pattern:
        return "holds a blank, or what is not ASCII"
    if "*" not in pattern and not pattern.startswith(_SCHEMES):
        return f"has no * and does not begin with one of {' '.join(_SCHEMES)}"
    return ""
