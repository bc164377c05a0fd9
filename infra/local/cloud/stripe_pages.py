"""What a customer sees at Stripe: the pay page, in plain HTML."""

from html import escape

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_currencies import show

# What can be chosen, and what its button says.
Choices = dict[str, str]

_FRAME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto;
         padding: 1rem }}
  h1 {{ font-size: 1rem; font-weight: normal; margin: 0 }}
  .amount {{ font-size: 2.5rem; font-weight: 600; margin: 0 0 1.5rem }}
  button {{ display: block; width: 100%; font: inherit; padding: .7rem; margin: .5rem 0;
           border: 1px solid #888; border-radius: .4rem; background: none; color: inherit;
           cursor: pointer }}
  button.primary {{ background: #1a56db; border-color: #1a56db; color: #fff }}
  small {{ color: #666 }}
  @media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee }} }}
</style>
<main>{body}</main>
</html>
"""


def pay(session: Document, possible: Choices) -> str:
    """Show what is to be paid and the ways to do it."""
    heading = f"<h1>{escape(_description(session))}</h1>"
    amount = show(session["amount_total"], session["currency"])
    buttons = _buttons(possible) if possible else f"<p>{_end(session)}</p>"
    note = "<p><small>A stand-in for Stripe: no money moves.</small></p>"
    body = f"{heading}<p class=amount>{escape(amount)}</p>{buttons}{note}"
    return _FRAME.format(title="Pay", body=body)


def message(text: str) -> str:
    """Show one sentence."""
    return _FRAME.format(title="Faregate", body=f"<p>{escape(text)}</p>")


def choices(session: Document, intent: Document | None) -> Choices:
    """Tell what the customer or the customer's bank can do now: the form's `method`."""
    if session["status"] == "open":
        possible = {
            "card": "Pay by card",
            "card_declines_later": "Pay by a card that is declined from then on",
        }
        if "us_bank_account" in session["payment_method_types"]:
            possible["bank_transfer"] = "Pay by bank transfer (the money arrives later)"
        return possible | {"cancel": "Cancel"}
    if intent is not None and intent["status"] == "processing":
        return {
            "bank_transfer_arrives": "The bank transfer arrives",
            "bank_transfer_fails": "The bank transfer fails",
        }
    return {}


def _buttons(possible: Choices) -> str:
    buttons = [
        f'<button name="method" value="{value}"{"" if index else " class=primary"}>{text}</button>'
        for index, (value, text) in enumerate(possible.items())
    ]
    return f'<form method="post">{"".join(buttons)}</form>'


def _end(session: Document) -> str:
    if session["status"] == "expired":
        return "This checkout has expired."
    outcome = "is complete" if session["payment_status"] == "paid" else "has failed"
    return f"This payment {outcome}."


def _description(session: Document) -> str:
    return f"Order {session['client_reference_id'] or session['id']}"
