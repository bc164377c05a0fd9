"""A backup is one when it was restored: base backup and log, to the moment before an accident."""

from infra import restore_drill


def test_what_is_restored_is_what_was_lost() -> None:
    outcome = restore_drill.drill(organizations=200, seconds=2)
    # One transfer each is their $100; the others are charges of sessions.
    assert outcome.transfers > 200
    assert outcome.differences == 0
    assert outcome.is_equal
