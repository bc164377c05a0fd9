"""send_invitation: whatever Supabase Auth answers, in the end there is a mail, and a way in."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.invitations import DAY, Invitations
from tests.harness.operations import ABSENT
from tests.harness.platform import Platform

SENT = {"status": "sent"}


@pytest.fixture
def parts(platform: Platform, function: Load) -> Invitations:
    return Invitations(platform, function)


def _begin(parts: Invitations, email: str) -> dict[str, str]:
    """Invite an address; give the task that has the mail sent."""
    done(parts.ask(email), 201)
    assert parts.strike() == 1
    return parts.tasks()[-1]


def _expect_one_way_in(parts: Invitations, email: str) -> None:
    arrival = parts.follow(email)
    done(parts.accept(arrival.token, by=arrival.session))
    assert parts.statuses() == ["accepted"]


class Faults:
    """Stands before Supabase Auth, and answers in its place as long as it has something to say."""

    def __init__(self, supabase_url: str) -> None:
        self.answers: list[tuple[int, str, str]] = []
        self.loses_answer_to = ""
        self.is_silent = Event()
        self.asked: list[str] = []
        self._supabase_url = supabase_url

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.asked.append(handler.path.partition("?")[0])
        if self.is_silent.is_set():
            handler.close_connection = True
            Event().wait(1.5)
            return
        if self.answers:
            status, kind, text = self.answers.pop(0)
        else:
            answer = httpx.post(
                self._supabase_url + handler.path,
                content=body,
                headers={name: handler.headers[name] for name in ("apikey", "Authorization")},
                trust_env=False,
            )
            status, kind, text = answer.status_code, "application/json", answer.text
        if self.loses_answer_to == self.asked[-1]:
            self.loses_answer_to = ""
            handler.close_connection = True
            return
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())


@contextmanager
def _faults(platform: Platform) -> Iterator[tuple[Faults, str]]:
    faults = Faults(platform.cloud.layout.supabase_url)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            faults.handle(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield faults, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


def _refusal(status: int, code: str) -> tuple[int, str, str]:
    body = {"code": status, "error_code": code, "msg": "no"}
    return status, "application/json", json.dumps(body)


HTML = "<html><body>Bad gateway</body></html>"
PASSING = {
    "a limit": _refusal(429, "over_email_send_rate_limit"),
    "a wrong key": _refusal(403, "not_admin"),
    "no key": _refusal(401, "no_authorization"),
    "an error": _refusal(500, "unexpected_failure"),
    "an error without a code": (500, "application/json", '{"msg": "no"}'),
    "an error that is a list": (500, "application/json", "[]"),
    "a timeout behind it": (504, "application/json", '{"error_code": "request_timeout"}'),
    "a gateway's page": (502, "text/html", HTML),
    "a refusal in HTML": (403, "text/html", HTML),
    "a success in HTML": (200, "text/html", HTML),
    "a success without a user": (200, "application/json", "{}"),
    "an empty success": (200, "application/json", ""),
    "half an answer": (200, "application/json", '{"id": "'),
    "a redirection": (302, "text/html", ""),
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(
    parts: Invitations, platform: Platform, function: Load, answer: tuple[int, str, str]
) -> None:
    email = parts.new_address()
    task = _begin(parts, email)
    with _faults(platform) as (faults, url):
        faults.answers = [answer]
        worker = function("send_invitation", SUPABASE_URL=url)
        before = platform.contents()
        response = parts.work(task, worker)
        problem(response, 503, "unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert (parts.statuses(), platform.contents()) == (["pending"], before)
        assert done(parts.work(task, worker)) == SENT
    _expect_one_way_in(parts, email)


@pytest.mark.parametrize("path", ["/auth/v1/invite", "/auth/v1/otp"])
def test_a_lost_answer_means_another_mail_and_both_are_good(
    parts: Invitations, platform: Platform, function: Load, path: str
) -> None:
    email = parts.new_address()
    if path.endswith("otp"):
        platform.user(email.lower())
    task = _begin(parts, email)
    with _faults(platform) as (faults, url):
        worker = function("send_invitation", SUPABASE_URL=url)
        faults.loses_answer_to = path
        problem(parts.work(task, worker), 503, "unavailable")
        assert faults.asked[-1] == path
        first = parts.follow(email)
        assert parts.statuses() == ["pending"]
        assert done(parts.work(task, worker)) == SENT
    second = parts.follow(email)
    assert first.token == second.token
    done(parts.accept(first.token, by=first.session))
    problem(parts.accept(second.token, by=second.session), 404, "invitation_not_found")


def test_whoever_accepts_before_the_mail_is_noted_has_accepted(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    email = parts.new_address()
    task = _begin(parts, email)
    with _faults(platform) as (faults, url):
        faults.loses_answer_to = "/auth/v1/invite"
        worker = function("send_invitation", SUPABASE_URL=url)
        problem(parts.work(task, worker), 503, "unavailable")
    _expect_one_way_in(parts, email)
    assert done(parts.work(task)) == {"status": "accepted"}


def test_a_silent_provider_is_not_waited_for(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    email = parts.new_address()
    task = _begin(parts, email)
    with _faults(platform) as (faults, url):
        worker = function("send_invitation", SUPABASE_URL=url, SUPABASE_AUTH_TIMEOUT_SECONDS="1")
        faults.is_silent.set()
        problem(parts.work(task, worker), 503, "unavailable")
        faults.is_silent.clear()
        assert done(parts.work(task, worker)) == SENT
    _expect_one_way_in(parts, email)


def test_a_provider_that_is_not_there_is_tried_again(parts: Invitations, function: Load) -> None:
    task = _begin(parts, parts.new_address())
    worker = function("send_invitation", SUPABASE_URL="http://127.0.0.1:9")
    problem(parts.work(task, worker), 503, "unavailable")
    assert parts.statuses() == ["pending"]
    assert done(parts.work(task)) == SENT


@pytest.mark.parametrize(
    "code", ["validation_failed", "email_address_invalid", "email_address_not_authorized"]
)
def test_an_address_that_is_refused_for_good_is_told_to_whoever_invited(
    parts: Invitations, platform: Platform, function: Load, code: str
) -> None:
    email = parts.new_address()
    task = _begin(parts, email)
    with _faults(platform) as (faults, url):
        faults.answers = [_refusal(400, code)]
        worker = function("send_invitation", SUPABASE_URL=url)
        assert done(parts.work(task, worker)) == {"status": "failed"}
        assert done(parts.work(task, worker)) == {"status": "failed"}
        assert len(faults.asked) == 1
    (invitation,) = parts.all()
    assert (invitation["status"], invitation["failure"]) == ("failed", "address_refused")
    problem(parts.revoke(invitation["id"]), 409, "invitation_closed")
    parts.invite(email)
    assert parts.statuses() == ["failed", "sent"]


def test_a_user_who_vanishes_between_the_two_calls_is_made_anew(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    email = parts.new_address()
    task = _begin(parts, email)
    with _faults(platform) as (faults, url):
        faults.answers = [_refusal(422, "email_exists"), _refusal(422, "otp_disabled")]
        worker = function("send_invitation", SUPABASE_URL=url)
        problem(parts.work(task, worker), 503, "unavailable")
        assert faults.asked == ["/auth/v1/invite", "/auth/v1/otp"]
        assert done(parts.work(task, worker)) == SENT
    _expect_one_way_in(parts, email)


def test_a_task_that_is_repeated_sends_one_mail(parts: Invitations) -> None:
    email = parts.new_address()
    task = _begin(parts, email)
    with parts.mails_limited(1):
        assert [done(parts.work(task)) for _ in range(3)] == [SENT] * 3
    _expect_one_way_in(parts, email)
    assert done(parts.work(task)) == {"status": "accepted"}


def test_of_many_deliveries_at_once_every_mail_is_good(parts: Invitations) -> None:
    email = parts.new_address()
    task = _begin(parts, email)
    with ThreadPoolExecutor(8) as threads:
        assert [done(each) for each in threads.map(parts.work, [task] * 8)] == [SENT] * 8
    _expect_one_way_in(parts, email)


def test_the_queue_is_told_again_after_its_answer_was_lost(parts: Invitations) -> None:
    task = _begin(parts, parts.new_address())
    parts.platform.lose_the_note()
    assert parts.strike() == 1
    assert parts.tasks() == [task]
    assert parts.strike() == 0


def test_what_has_expired_is_not_mailed(parts: Invitations) -> None:
    task = _begin(parts, parts.new_address())
    parts.platform.advance(7 * DAY)
    before = parts.platform.contents()
    assert done(parts.work(task)) == {"status": "expired"}
    assert parts.platform.contents() == before


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        pytest.param({"invitation_id": ABSENT}, 404, "invitation_not_found", id="absent"),
        pytest.param({"organization_id": ABSENT}, 404, "invitation_not_found", id="foreign"),
        pytest.param({"invitation_id": "x"}, 400, "invalid_request", id="no id"),
        pytest.param({"invitation_id": None}, 400, "invalid_request", id="null"),
        pytest.param({"token": uuid4().hex}, 400, "invalid_request", id="a token"),
    ],
)
def test_refuses(parts: Invitations, changes: dict[str, Any], status: int, code: str) -> None:
    task = _begin(parts, parts.new_address())
    before = parts.platform.contents()
    problem(parts.work(task | changes), status, code)
    assert parts.platform.contents() == before
