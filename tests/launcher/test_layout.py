"""The options of `run` that say how the stores are laid out."""

import argparse

import pytest

from engine.cli import main
from engine.cli.layout import Layout, add_layout_arguments, layout_of
from engine.settings import Acknowledge, SettingError


def asked(*options: str, **environment: str) -> Layout:
    parser = argparse.ArgumentParser()
    add_layout_arguments(parser)
    return layout_of(parser.parse_args(options), environment)


@pytest.mark.parametrize(
    ("options", "layout"),
    [
        ("", Layout(1, 1, 0, Acknowledge.FSYNC)),
        ("--partitions 4", Layout(4, 1, 0, Acknowledge.FSYNC)),
        ("--acknowledge postgres", Layout(1, 1, 0, Acknowledge.POSTGRES)),
        ("--cluster", Layout(12, 3, 0, Acknowledge.FSYNC)),
        ("--cluster --replicas 0 --partitions 6", Layout(6, 3, 0, Acknowledge.FSYNC)),
        ("--cluster --replicas 1", Layout(12, 3, 1, Acknowledge.REPLICA)),
        ("--cluster --replicas 2 --acknowledge fsync", Layout(12, 3, 2, Acknowledge.FSYNC)),
    ],
)
def test_what_the_options_ask_for(options: str, layout: Layout) -> None:
    assert asked(*options.split()) == layout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--replicas 1", "add --cluster"),
        ("--acknowledge replica", "add --cluster --replicas 1"),
        ("--cluster --acknowledge replica", "add --cluster --replicas 1"),
    ],
)
def test_options_that_contradict_each_other(options: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        asked(*options.split())


def test_a_cluster_beside_a_redis_of_the_operator_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:6379")
    assert main(["run", "--cluster"]) == 2
    err = capsys.readouterr().err
    assert err == "dosebook: REDIS_URL names servers of your own: unset it, or leave out --cluster\n"
    assert asked(REDIS_URL="redis://127.0.0.1:6379") == Layout()


@pytest.mark.parametrize(
    "options", ["--replicas 10", "--replicas -1", "--partitions 0", "--partitions 101", "--acknowledge soon"]
)
def test_impossible_values_are_refused(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--cluster", *options.split()])
    assert options.split()[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout(), "one Redis, 1 partition, policy fsync"),
        (
            Layout(12, 3, 1, Acknowledge.REPLICA),
            "3 Redis masters with 1 replica each, 12 partitions, policy replica",
        ),
    ],
)
def test_the_layout_in_words(layout: Layout, words: str) -> None:
    assert str(layout) == words
