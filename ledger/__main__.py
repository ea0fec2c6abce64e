"""The command line, and the composition root: only from here are settings read, engines and servers made."""

import io
import sys

import typer

from .cli import balances, charging, commands, importing, ordering, rates, reading, report, serve, topics, upkeep, vendors, watching


def build() -> typer.Typer:
    """Every command under its name."""
    app = typer.Typer(
        name="ledger", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
        help="An exact, enforcing spend ledger for LLM usage. Settings are environment variables LEDGER_…, or a .env file.",
    )  # fmt: skip
    for command in (
        serve.serve, upkeep.migrate, ordering.apply, reading.get, balances.balances, report.report, reading.explain, ordering.pause,
        ordering.resume, ordering.revoke, upkeep.replay, upkeep.verify, watching.reader, watching.doctor, charging.adjust,
    ):  # fmt: skip
        app.command()(command)
    app.command(context_settings={"ignore_unknown_options": True})(charging.share)  # so that an amount of -5 is told what it is
    app.command("import")(importing.import_usage)
    app.command("reconcile")(vendors.reconcile_usage)
    app.command()(vendors.adopt)
    app.add_typer(vendors.keys, name="keys")
    app.add_typer(commands.commands, name="commands")
    app.add_typer(upkeep.tokens, name="tokens")
    app.add_typer(rates.rates, name="rates")
    app.add_typer(topics.topics, name="topics")
    app.add_typer(topics.dead, name="dead")
    return app


def main() -> None:
    """Entry point of `ledger`. What it prints is UTF-8 in any locale: names are what others chose, and files are for machines."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    build()()


if __name__ == "__main__":
    main()
