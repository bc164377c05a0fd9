"""What the errors of Google's storage clients mean."""

from google.api_core.exceptions import GoogleAPICallError

from faregate.backends.storage import Outcome

# Cloud Storage says the first, the newer services the second.
_RATES = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
_QUOTAS = {"quotaExceeded", "QUOTA_EXCEEDED"}

# google.rpc.Code of an operation that failed, as the status that a call would have had.
_STATUSES = {3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 16: 401}


def outcome(error: BaseException) -> Outcome:
    """Tell what an error means.

    A refusal for want of a permission is final: the functions' own role was granted long ago, and
    the customer's money should not wait for an operator. Of the many words for "too much", those
    for a rate pass and those for an allowance do not.
    """
    if not isinstance(error, GoogleAPICallError):
        return Outcome("unavailable", "no_answer", cause=error)
    words = {each.get("reason") for each in error.errors if isinstance(each, dict)}
    words.add(error.reason)
    # Filestore's own allowances come without a word of theirs, but always so:
    # https://cloud.google.com/filestore/docs/quotas
    is_allowance = bool(words & _QUOTAS) or "Quota limit " in str(error)
    return _outcome(int(error.code or 500), words, error, is_allowance=is_allowance)


def operation_outcome(code: int, message: str) -> Outcome:
    """Tell what the failure of a long operation means: there it is never a rate."""
    return _outcome(_STATUSES.get(code, 500), set(), RuntimeError(message), is_allowance=code == 8)


def _outcome(
    status: int, words: set[str | None], cause: BaseException, *, is_allowance: bool
) -> Outcome:
    if is_allowance:
        return Outcome("refused", "quota_exceeded", cause=cause)
    if status == 429 or words & _RATES:
        return Outcome("unavailable", "too_many_requests", cause=cause)
    if status == 403:
        return Outcome("refused", "permission_denied", cause=cause)
    if status in {400, 404, 405, 410, 411, 413, 414}:
        return Outcome("refused", "invalid", cause=cause)
    return Outcome("unavailable", "no_answer" if status >= 500 else "conflict", cause=cause)
