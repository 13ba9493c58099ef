"""`pointsman conformance`: does an endpoint picker keep the Endpoint Picker Protocol?"""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pointsman_operator.conformance import report
from pointsman_operator.conformance.gateway import Gateway
from pointsman_operator.conformance.rule import AnyRule, Level, Subject
from pointsman_operator.conformance.running import Outcome, Result, learn, run
from pointsman_operator.conformance.table import RULES, markdown
from pointsman_operator.conformance.tls import TlsSettings

_BROKEN = 1


def conformance(
    target: Annotated[
        str, typer.Option(envvar="POINTSMAN_TARGET", help='The picker, "host:port" or "unix:/path".')
    ] = "127.0.0.1:9002",
    health_target: Annotated[str, typer.Option(help="Its health service, if that is elsewhere.")] = "",
    model: Annotated[str, typer.Option(help="A model that it serves.")] = "auto",
    endpoints: Annotated[
        str, typer.Option(help="Its whole pool, ip:port,ip:port,...; default: learned from its picks.")
    ] = "",
    shed_model: Annotated[str, typer.Option(help="A model whose requests it sheds now (429).")] = "",
    shed_header: Annotated[
        list[str] | None, typer.Option(help='A header, "name: value", that makes it shed now; may be repeated.')
    ] = None,
    empty_model: Annotated[str, typer.Option(help="A model that has no ready endpoint now (503).")] = "",
    tls: Annotated[bool, typer.Option("--tls/--plaintext", help="TLS is not verified without --ca.")] = False,
    ca: Annotated[Path | None, typer.Option(help="PEM file of the CA that its certificate must come from.")] = None,
    client_certificate: Annotated[Path | None, typer.Option(help="PEM file to show to it.")] = None,
    client_key: Annotated[Path | None, typer.Option(help="Its key, if that is in another PEM file.")] = None,
    server_name: Annotated[str, typer.Option(help="Name in its certificate, if not the target's host.")] = "",
    timeout: Annotated[float, typer.Option(min=0.05, help="Seconds to wait for each answer.")] = 5.0,
    rule: Annotated[list[str] | None, typer.Option(help="Check only this rule; may be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results there too.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail on SHOULD as on MUST.")] = False,
    list_rules: Annotated[bool, typer.Option("--list", help="Print the rules as Markdown and stop.")] = False,
) -> None:
    """Check any endpoint picker against the Endpoint Picker Protocol v1.0; exit code 0 if every MUST holds."""
    if list_rules:
        typer.echo(markdown())
        return
    rules = _chosen(rule or [])
    pool = tuple(one.strip() for one in endpoints.split(",") if one.strip())
    subject = Subject(
        model=model,
        endpoints=pool,
        endpoints_are_told=bool(pool),
        shed_model=shed_model,
        shed_headers=dict(_header(one) for one in shed_header or []),
        empty_model=empty_model,
        timeout_seconds=timeout,
    )
    wants_tls = tls or ca is not None or client_certificate is not None
    settings = TlsSettings(authority=ca, certificate=client_certificate, key=client_key, server_name=server_name)
    gateway = Gateway(target, timeout, settings if wants_tls else None, health_target)
    learned, results = asyncio.run(_run(gateway, subject, rules))
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(target, learned, results), indent=2) + "\n")
    _show(target, learned, results)
    if not report.conforms(results) or (strict and any(one.outcome is Outcome.WARNING for one in results)):
        raise typer.Exit(_BROKEN)


async def _run(gateway: Gateway, subject: Subject, rules: list[AnyRule]) -> tuple[Subject, list[Result]]:
    console = Console(stderr=True)
    async with gateway:
        learned = await learn(gateway, subject)
        with console.status("") as status:
            return learned, await run(gateway, learned, rules, lambda one: status.update(one.rule.id))


def _show(target: str, subject: Subject, results: list[Result]) -> None:
    console = Console(highlight=False)
    console.print(report.table(target, results))
    console.print(report.details(results))
    known = ", ".join(subject.endpoints) or "none"
    console.print(f"Endpoints {'told' if subject.endpoints_are_told else 'learned'}: {known}", markup=False)
    broken = [one for one in results if one.rule.level is Level.SHOULD and one.outcome is Outcome.WARNING]
    console.print(f"The picker {report.summary(results)}", style="red" if not report.conforms(results) else "")
    if broken:
        console.print("Warnings are broken SHOULDs; --strict fails on them.", style="dim")


def _chosen(ids: list[str]) -> list[AnyRule]:
    unknown = [one for one in ids if one not in {known.id for known in RULES}]
    if unknown:
        raise typer.BadParameter(f"there is no rule {unknown[0]!r}; see pointsman conformance --list")
    return [one for one in RULES if not ids or one.id in ids]


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator or not name.strip():
        raise typer.BadParameter(f'--shed-header must be "name: value", not {text!r}')
    return name.strip().lower(), value.strip()
