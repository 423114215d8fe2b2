"""The sender of webhooks: a thread beside the dispatcher's loop, and beside the embedded worker's.

Nothing is sent inside a request. A message is taken under a lease; a sender that dies between sending and writing it
down leaves it to be sent again, under the same id.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import httpx

from app import logs
from app.errors import ServiceError
from app.outbound import Guard, Policy
from app.persistence.session import Database
from app.services.access.secret_box import SecretBox
from app.services.notify.deliveries import DeliveryService, Message, Outcome, utc_now
from app.settings import Settings
from workers.background.every import Every

THREADS = 64
"""As many receivers may be slow at the same time without holding up the others."""
MOST_OF_PROJECT = 8
"""Of these as many may be of one project: one with many slow receivers holds up its own messages only."""
SLOW_SECONDS = 2.0
"""An endpoint that takes longer is parked."""
PARKED_FACTOR = 4.0
"""For so many times as long as it took: a slow endpoint keeps a thread for a fifth of the time at most."""
SWEEP_SECONDS = 3600.0
MOST_ANSWER_BYTES = 65536


class WebhookSender:
    """Sends what is due until it is stopped.

    Args:
        settings: Of the service.
        database: A pool of its own, so that slow receivers take no connection of somebody else.
        guard: Which addresses may be told; made from the settings when left out.
    """

    def __init__(self, settings: Settings, database: Database, guard: Guard | None = None) -> None:
        self.settings = settings
        self.deliveries = DeliveryService(database, settings, SecretBox(settings))
        self._guard = guard or Guard(Policy.of(settings))
        self._client = self._guard.client(
            max_bytes=MOST_ANSWER_BYTES,
            max_seconds=settings.webhook_timeout_seconds,
            timeout=settings.webhook_timeout_seconds,
            follow_redirects=False,
        )
        self._ending = threading.Event()
        self._more = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
        self._under_way: dict[str, tuple[str, Future[None]]] = {}
        self._parked: dict[str, float] = {}
        self._swept = 0.0
        self._rounds = Every(
            settings.poll_seconds,
            self._send_due,
            "webhook-sender",
            self._ending,
            wake=self._more,
            at_once=True,
            at_end=self._pool.shutdown,
        )

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> None:
        """Take no more messages, and wait for those on their way as long as they may take."""
        self._ending.set()
        self._more.set()
        self._rounds.join(self.settings.webhook_timeout_seconds + 1)
        self._client.close()

    def send(self, message: Message) -> Outcome:
        """One attempt."""
        if not message.secrets:
            return Outcome(error="the secret cannot be decrypted: SPICE_WEBHOOK_KEY or webhook-key has changed")
        try:
            # Signed at the moment of sending: a receiver refuses what is older than minutes.
            headers = message.headers(utc_now())
            with self._client.stream("POST", message.url, content=message.body.encode(), headers=headers) as answer:
                return Outcome(status=answer.status_code, retry_after=retry_after(answer.headers))
        except ServiceError as refused:
            return Outcome(error=f"{refused.code}: {refused.detail}")
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            return Outcome(error=f"{type(problem).__name__}: {problem}"[:300])

    def _send_due(self) -> None:
        """Take what is due. An endpoint that has taken a message can have its next one at once."""
        self._under_way = {name: sent for name, sent in self._under_way.items() if not sent[1].done()}
        busy = {endpoint: project for endpoint, (project, _) in self._under_way.items()}
        now = time.monotonic()
        self._parked = {endpoint: until for endpoint, until in self._parked.items() if until > now}
        for message in self.deliveries.claim(
            THREADS - len(busy), busy, parked=set(self._parked), most_of_project=MOST_OF_PROJECT
        ):
            self._under_way[message.endpoint_id] = (message.project_id, self._pool.submit(self._deliver, message))
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self.deliveries.sweep()
            self._swept = time.monotonic()

    def _deliver(self, message: Message) -> None:
        log = logs.get_logger().bind(delivery=message.delivery_id, endpoint=message.endpoint_id)
        began = time.monotonic()
        try:
            outcome = self.send(message)
            state = self.deliveries.settle(message, outcome)
            seconds = round(time.monotonic() - began, 3)
            if seconds > SLOW_SECONDS:
                self._parked[message.endpoint_id] = time.monotonic() + PARKED_FACTOR * seconds
            log.info("webhook_sent", attempt=message.attempt, state=state, status=outcome.status, seconds=seconds)
        except Exception as error:  # its lease runs out, and it is sent again
            log.error("webhook_not_settled", error=str(error))
        finally:
            self._more.set()


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, as a number or a date; None without a readable one."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - utc_now()).total_seconds())
    except (TypeError, ValueError):
        return None
