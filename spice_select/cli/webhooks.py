"""``spice-select webhooks``."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from spice_select.cli import options
from spice_select.cli.output import note, print_fields, print_json, print_table

if TYPE_CHECKING:
    from spice_select.client import WebhookDelivery, WebhookEndpoint

app = typer.Typer(help="Send events to addresses of yours.", no_args_is_help=True, rich_markup_mode=None)

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Id of a webhook endpoint (whe_...).")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="A type such as job.succeeded; may be repeated. The ends of jobs when left out."),
]


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="An https address that takes POST.")],
    event: Events = None,
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    json: options.Json = False,
) -> None:
    """Add an endpoint; the secret that messages are signed with is printed once."""
    with options.service() as client:
        _show(client.webhook_endpoints.create(url, event_types=event, name=name), json)


@app.command("list")
def list_endpoints(json: options.Json = False) -> None:
    """List the endpoints, newest first."""
    with options.service() as client:
        endpoints = list(client.webhook_endpoints.list())
    if json:
        print_json(endpoints)
        return
    rows = [
        (one.id, "on" if one.enabled else one.disabled_reason or "off", one.url, ",".join(one.event_types))
        for one in endpoints
    ]
    print_table(["endpoint", "state", "url", "events"], rows)


@app.command()
def show(endpoint: EndpointId, json: options.Json = False) -> None:
    """Show an endpoint."""
    with options.service() as client:
        _show(client.webhook_endpoints.get(endpoint), json)


@app.command()
def change(
    endpoint: EndpointId,
    url: Annotated[str | None, typer.Option(help="Another address.")] = None,
    event: Events = None,
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--on/--off", help="Off drops waiting messages; on starts again.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Change an endpoint; what is left out stays."""
    changes = options.without_none(url=url, event_types=event, name=name, enabled=enabled)
    with options.service() as client:
        _show(client.webhook_endpoints.update(endpoint, **changes), json)


@app.command()
def rotate(
    endpoint: EndpointId,
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the old secret signs as well.")] = 24.0,
    json: options.Json = False,
) -> None:
    """Sign with a new secret, which is printed once."""
    with options.service() as client:
        _show(client.webhook_endpoints.rotate_secret(endpoint, overlap_hours=overlap_hours), json)


@app.command()
def ping(endpoint: EndpointId, json: options.Json = False) -> None:
    """Send an empty message, to see whether it arrives."""
    with options.service() as client:
        _queued(client.webhook_endpoints.ping(endpoint), json)


@app.command()
def deliveries(
    endpoint: EndpointId,
    state: Annotated[str | None, typer.Option(help="pending, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most messages.")] = 20,
    json: options.Json = False,
) -> None:
    """List what was sent to an endpoint, newest first."""
    with options.service() as client:
        messages = list(islice(client.webhook_endpoints.deliveries(endpoint, state=state), limit))
    if json:
        print_json(messages)
        return
    rows = [(one.id, one.type, one.state, one.attempts, one.last_status, one.last_error) for one in messages]
    print_table(["delivery", "type", "state", "attempts", "status", "error"], rows)


@app.command()
def redeliver(
    endpoint: EndpointId,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of a message (whd_...).")],
    json: options.Json = False,
) -> None:
    """Send a message again, under its old id."""
    with options.service() as client:
        _queued(client.webhook_endpoints.redeliver(endpoint, delivery), json)


@app.command()
def remove(endpoint: EndpointId, json: options.Json = False) -> None:
    """Remove an endpoint."""
    with options.service() as client:
        client.webhook_endpoints.delete(endpoint)
    if json:
        print_json({"id": endpoint, "deleted": True})
    else:
        note(f"{endpoint} deleted")


def _show(endpoint: WebhookEndpoint, json: bool) -> None:
    if json:
        print_json(endpoint)
        return
    print_fields(
        {
            "endpoint": endpoint.id,
            "url": endpoint.url,
            "name": endpoint.name,
            "events": ", ".join(endpoint.event_types),
            "state": "on" if endpoint.enabled else endpoint.disabled_reason or "off",
            "secret": endpoint.secret,
            "old secret until": endpoint.old_secret_until,
        }
    )


def _queued(delivery: WebhookDelivery, json: bool) -> None:
    if json:
        print_json(delivery)
        return
    print_fields({"delivery": delivery.id, "type": delivery.type, "state": delivery.state})
