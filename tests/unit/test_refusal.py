"""The strings by which clients know a rule."""

from engine.rules.refusal import OF_THE_MOMENT, Basis, Rule


def test_strings_of_rules_stay() -> None:
    """A new rule is a new line here; a line that changes breaks clients."""
    assert [rule.value for rule in Rule] == [
        "unknown-person",
        "unknown-session",
        "unknown-slot",
        "unknown-vaccine",
        "doses",
        "two-vaccines",
        "one-dose",
        "second-dose-needed",
        "out-of-order",
        "interval",
        "past-slot",
        "given-missing",
        "given-already",
        "given-in-future",
        "vaccine-not-admitted",
        "cohort-not-open",
        "booster-not-due",
        "no-such-dose",
        "slot-begun",
        "cut-off",
        "changes-used",
        "household-size",
        "household-twice",
        "two-locations",
        "not-neighbouring",
    ]
    assert [basis.value for basis in Basis] == ["booking", "dose"]


def test_what_never_changes_is_not_of_the_moment() -> None:
    always = {Rule.UNKNOWN_SLOT, Rule.TWO_VACCINES, Rule.OUT_OF_ORDER, Rule.DOSES, Rule.TWO_LOCATIONS}
    assert not OF_THE_MOMENT & always
