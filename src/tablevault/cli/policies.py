"""The options that replace policies of builder files, and that give amounts."""

from __future__ import annotations

from typing import Any

import click

policies = click.option(
    "--policy",
    multiple=True,
    metavar="BUILDER.FIELD=VALUE",
    help="Replace a policy of a builder file, as in answer.retry=3; * stands for all builders; repeatable.",
)


budget = click.option(
    "--budget",
    multiple=True,
    metavar="AMOUNT=NUMBER",
    help="Limit on the usage of calls, as in calls=1000 or cost=5; repeatable. The process pauses when it is reached.",
)


def given_policies(given: tuple[str, ...]) -> dict[str, dict[str, Any]] | None:
    """Return policies that are written as BUILDER.FIELD=VALUE, with the values in YAML.

    The field is the longest suffix that names one: `answer.retry.wait` is the field `retry.wait` of `answer`.
    """
    import yaml

    found: dict[str, dict[str, Any]] = {}
    for text in given:
        place, separator, value = text.partition("=")
        builder, name, part = _split(place)
        if not (separator and builder and name):
            raise click.UsageError(f"A policy is written BUILDER.FIELD=VALUE, not '{text}'.")
        try:
            content = yaml.safe_load(value)
        except yaml.YAMLError:
            raise click.UsageError(f"The value of the policy '{place}' is not valid YAML: {value}") from None
        fields = found.setdefault(builder, {})
        if not part:
            fields[name] = content
        elif isinstance(fields.setdefault(name, {}), dict):
            fields[name][part] = content
        else:
            raise click.UsageError(f"Give the policy '{builder}.{name}' as a whole or in parts, not both.")
    return found or None


def given_amounts(option: str, given: tuple[str, ...]) -> dict[str, float]:
    """Return numbers that are written as NAME=NUMBER."""
    found: dict[str, float] = {}
    for text in given:
        name, separator, number = text.partition("=")
        try:
            if not (separator and name):
                raise ValueError
            found[name] = int(number) if number.strip().lstrip("+-").isdecimal() else float(number)
        except ValueError:
            raise click.UsageError(f"--{option} is written NAME=NUMBER, not '{text}'.") from None
    return found


def given_rules(policy: tuple[str, ...], budget: tuple[str, ...]) -> dict[str, Any]:
    """Return the options as the keyword arguments `policies` and `budget`."""
    return {"policies": given_policies(policy), "budget": given_amounts("budget", budget) or None}


def _split(place: str) -> tuple[str, str, str]:
    """Return the builder, field and part of the field that a policy is for."""
    from tablevault.builders.fields import RetryFields

    rest, _, last = place.rpartition(".")
    builder, _, name = rest.rpartition(".")
    if builder and name == "retry" and last in RetryFields.model_fields:
        return builder, name, last
    return rest, last, ""
