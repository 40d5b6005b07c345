"""What is on a screen, from what Ollama's command has written to it. No lab is needed for that."""

from tests.lab.conformance.terminal import in_time, screen


def frame(*lines: str, up: int = 0) -> str:
    """As progress.go of 0.17.4 draws it."""
    drawn = "\r\n".join(line + "\x1b[K" for line in lines)
    return "\x1b[?2026h\x1b[?25l" + "\x1b[A" * up + "\x1b[1G" + drawn + "\x1b[?25h\x1b[?2026l"


CLEARED = "\x1b[?25l" + frame("") + "\x1b[2K\x1b[1G\x1b[?25h"
PULLED = ("pulling manifest ", "pulling 9e76d0355c29: 100% 491 KB", "success ")


def test_a_spinner_that_turns_once_more_takes_nothing_away() -> None:
    """It is stopped and cleared before the answer begins; a frame that comes late would stand over it."""
    early = frame("\u2819 ") + frame("\u2839 ") + CLEARED + "The sky"
    late = early + frame("\u2838 ") + " is blue."

    assert screen(late) == ("\u2838  is blue.",)
    assert (
        screen(in_time(late))
        == screen(in_time(early + " is blue."))
        == screen(early + " is blue.")
        == ("The sky is blue.",)
    )


def test_lines_that_are_drawn_once_more_stand_there_once() -> None:
    """After the end of a pull, with the next command's output behind it."""
    early = frame("pulling manifest \u2819 ") + frame(*PULLED) + "\r\n"
    late = early + frame(*PULLED, up=2)

    assert screen(late) != screen(early)
    assert screen(in_time(late)) == screen(early) == tuple(line.strip() for line in PULLED)


def test_frames_of_another_progress_count() -> None:
    """A model that is pulled before it is run: two, one after the other, and what they show differs."""
    text = frame(*PULLED) + "\r\n" + frame("verifying ") + frame("verifying ", "done ") + "\r\n"

    assert screen(in_time(text)) == (*(line.strip() for line in PULLED), "verifying", "done")
