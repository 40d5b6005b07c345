"""Conversations and where their caches are."""

from olladist.scheduling.owners import OWNERS, Owners


def test_a_conversation_is_where_it_went_last() -> None:
    """No conversation is nobody's."""
    owners = Owners()
    owners.own(7, 1)
    copied = owners.copied()
    owners.own(7, 2)
    owners.own(0, 3)

    assert (owners.of(7), copied.of(7), owners.of(0), owners.of(8)) == (2, 1, None, None)


def test_conversations_are_forgotten_in_the_end() -> None:
    """Each request may be of another one, for years; the latest is remembered."""
    owners = Owners()
    for number in range(1, OWNERS + 10):
        owners.own(number, 1)

    assert len(owners) <= OWNERS
    assert owners.of(OWNERS + 9) == 1
