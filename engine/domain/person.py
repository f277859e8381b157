"""What the campaign's rules need to know of a person, and nothing that says who they are."""

from datetime import date

import msgspec


class Facts(msgspec.Struct, frozen=True):
    """A birth date, and the groups of the campaign that the person has declared (codes, sorted)."""

    birth_date: date
    groups: tuple[str, ...] = ()

    def age_on(self, day: date) -> int:
        """Full years on that day. Who is born on 29 February is a year older on 1 March of other years."""
        before_birthday = (day.month, day.day) < (self.birth_date.month, self.birth_date.day)
        return day.year - self.birth_date.year - before_birthday

    def day_of_age(self, years: int) -> date:
        """The first day of that age."""
        try:
            return self.birth_date.replace(year=self.birth_date.year + years)
        except ValueError:
            return date(self.birth_date.year + years, 3, 1)


class Given(msgspec.Struct, frozen=True, gc=False):
    """The last dose that was given elsewhere, as the person declares it."""

    vaccine: str
    day: date
