"""Owns the settings: environment variables with the prefix LEDGER_, or a `.env` file, read once and handed down.

A malformed or misspelt one stops the start with a message that names it. What Kubernetes injects for a Service that is
called `ledger` is not taken for ours.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .gateways.channels import Channel, EmailChannel, SlackChannel, WebhookChannel
from .kafka import Kafka, tls

PREFIX = "LEDGER_"
_FROM_KUBERNETES = re.compile(r"LEDGER_(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT=\w+://|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=).*")


class Settings(BaseModel):
    """Everything that can be set. Each also as `…_FILE`, the path of a file that holds the value."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: str = Field(default="sqlite:///ledger.db", description="where the books are kept: sqlite:///… or postgresql://…")
    read_database_url: str | None = Field(default=None, description="a replica for balances, reports, entries; it may lag")
    listen: str = Field(default="127.0.0.1:8080", description="HOST:PORT of the HTTP API")
    metrics_listen: str = Field(default="127.0.0.1", description="address of the metrics port")
    metrics_port: int = Field(default=9464, ge=0, le=65535, description="port of /metrics; 0 for none")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="debug, info, warning or error")
    admin_token: str | None = Field(default=None, min_length=16, description="the first access token; used at the first start only")
    reader_password: str | None = Field(default=None, min_length=12, description="of the role that `ledger reader` makes for dashboards")
    declared_orgs_only: bool = Field(default=False, description="park usage of orgs that nobody opened, instead of opening them")
    drift_percent: int = Field(default=5, ge=0, le=1000, description="how far a reported cost may be from the rate card's before it counts")

    keys_check_every_s: int = Field(default=600, ge=0, description="how often keys are compared with their gateways, seconds; 0: never")
    keys_sync_every_s: int = Field(default=900, ge=0, description="how often OpenRouter's keys are read and linked, seconds; 0: never")
    reconcile_every_s: int = Field(default=21_600, ge=0, description="how often gateways' accounts are compared, seconds; 0: never")

    notify_webhook_url: str | None = Field(default=None, pattern="^https?://", description="webhook that is told of breaches, signed")
    notify_webhook_secret: str | None = Field(default=None, description="what it is signed with: whsec_ and base64 (Standard Webhooks)")
    notify_slack_url: str | None = Field(default=None, pattern="^https?://", description="Slack's incoming webhook, told of breaches")
    notify_email_to: str | None = Field(default=None, description="e-mail addresses that are told of breaches, by commas")
    notify_email_from: str | None = Field(default=None, description="address that such mail comes from")
    notify_smtp_url: str | None = Field(default=None, pattern="^smtps?://", description="mail server: smtp://[USER:PASSWORD@]HOST[:PORT]")

    kafka_bootstrap_servers: str | None = Field(default=None, description="HOST:PORT,… of Kafka; without it everything runs in `serve`")
    kafka_security_protocol: str = Field(default="PLAINTEXT", pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$", description="as Kafka's")
    kafka_sasl_mechanism: str = Field(default="PLAIN", pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$", description="as Kafka's")
    kafka_sasl_username: str | None = Field(default=None, description="user at Kafka")
    kafka_sasl_password: str | None = Field(default=None, description="password at Kafka")
    kafka_ssl_cafile: str | None = Field(default=None, description="certificates that Kafka's own is checked against")
    kafka_ssl_certfile: str | None = Field(default=None, description="the ledger's own certificate, where Kafka asks for one")
    kafka_ssl_keyfile: str | None = Field(default=None, description="its key, not encrypted, where that lies in a file of its own")
    topic_prefix: str = Field(default="", pattern="^[A-Za-z0-9._-]{0,100}$", description="stands before the name of every topic")

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("is not HOST:PORT, such as 127.0.0.1:8080")
        return listen

    @field_validator("kafka_ssl_cafile")
    @classmethod
    def _certificates(cls, path: str | None) -> str | None:
        try:
            tls(path, None, None)
        except OSError as error:
            raise ValueError(f"{path} holds no certificates: {error.strerror or error}") from None
        return path

    @model_validator(mode="after")
    def _channels_are_whole(self) -> "Settings":
        mail = (self.notify_email_to, self.notify_email_from, self.notify_smtp_url)
        if (self.notify_webhook_url is None) is not (self.notify_webhook_secret is None):
            raise ValueError("LEDGER_NOTIFY_WEBHOOK_URL and LEDGER_NOTIFY_WEBHOOK_SECRET go together")
        if any(mail) and not all(mail):
            raise ValueError("LEDGER_NOTIFY_EMAIL_TO, LEDGER_NOTIFY_EMAIL_FROM and LEDGER_NOTIFY_SMTP_URL go together")
        return self

    @model_validator(mode="after")
    def _kafka_can_be_reached_so(self) -> "Settings":
        protocol = self.kafka_security_protocol
        if protocol.startswith("SASL") is not (self.kafka_sasl_username is not None):
            raise ValueError(f"LEDGER_KAFKA_SECURITY_PROTOCOL is {protocol}: LEDGER_KAFKA_SASL_USERNAME goes with SASL_…")
        if (self.kafka_sasl_username is None) is not (self.kafka_sasl_password is None):
            raise ValueError("LEDGER_KAFKA_SASL_USERNAME and LEDGER_KAFKA_SASL_PASSWORD go together")
        return self

    @model_validator(mode="after")
    def _own_certificate(self) -> "Settings":
        if self.kafka_ssl_certfile is None:
            if self.kafka_ssl_keyfile is not None:
                raise ValueError("LEDGER_KAFKA_SSL_KEYFILE goes with LEDGER_KAFKA_SSL_CERTFILE")
            return self
        if not self.kafka_security_protocol.endswith("SSL"):
            raise ValueError(f"LEDGER_KAFKA_SECURITY_PROTOCOL is {self.kafka_security_protocol}: LEDGER_KAFKA_SSL_CERTFILE goes with …SSL")
        try:
            tls(None, self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
        except OSError as error:
            why = error.strerror or error
            raise ValueError(f"LEDGER_KAFKA_SSL_CERTFILE and …_KEYFILE are not a certificate and its unencrypted key: {why}") from None
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def kafka_of(given: Settings) -> Kafka | None:
    """How Kafka is reached; None without it."""
    if given.kafka_bootstrap_servers is None:
        return None
    return Kafka(
        given.kafka_bootstrap_servers, given.topic_prefix, given.kafka_security_protocol, given.kafka_sasl_mechanism,
        given.kafka_sasl_username, given.kafka_sasl_password, given.kafka_ssl_cafile, given.kafka_ssl_certfile, given.kafka_ssl_keyfile,
    )  # fmt: skip


def channels_of(given: Settings) -> list[Channel]:
    """How people are told. Made inside a running event loop."""
    channels: list[Channel] = []
    if given.notify_webhook_url and given.notify_webhook_secret:
        channels.append(WebhookChannel(given.notify_webhook_url, given.notify_webhook_secret))
    if given.notify_slack_url:
        channels.append(SlackChannel(given.notify_slack_url))
    if given.notify_smtp_url and given.notify_email_from and given.notify_email_to:
        to = tuple(address.strip() for address in given.notify_email_to.split(","))
        channels.append(EmailChannel(given.notify_smtp_url, given.notify_email_from, to))
    return channels


class SettingsError(Exception):
    """What is wrong with which setting, a line each."""


def read_settings(environ: Mapping[str, str], dotenv: Path = Path(".env")) -> Settings:
    """Settings from the environment, then a `.env` file, then defaults. Raises SettingsError."""
    given = {name: value for name, value in dotenv_values(dotenv).items() if value is not None} if dotenv.is_file() else {}
    given |= {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    values: dict[str, str] = {}
    wrong: list[str] = []
    for name, value in given.items():
        if not name.startswith(PREFIX) or _FROM_KUBERNETES.fullmatch(f"{name}={value}"):
            continue
        field = name.removeprefix(PREFIX).lower()
        if field in Settings.model_fields:
            values[field] = value
        elif field.endswith("_file") and field[:-5] in Settings.model_fields:
            try:
                values[field[:-5]] = Path(value).read_text().strip()
            except OSError as error:
                wrong.append(f"{name}: {value} can't be read: {error.strerror}")
        else:
            near = difflib.get_close_matches(field, Settings.model_fields, 1)
            wrong.append(f"{name} is not a setting" + (f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        wrong += [_wrong(fault) for fault in error.errors(include_input=False)]
        settings = None
    if wrong or settings is None:
        raise SettingsError("\n".join(wrong))
    return settings


def _wrong(fault: Any) -> str:
    why = fault["msg"].removeprefix("Value error, ")
    return f"{PREFIX}{str(fault['loc'][0]).upper()}: {why}" if fault["loc"] else why
