"""What a customer sees at Stripe: the pay page, in plain HTML."""

from html import escape

from infra.local.cloud.store import Document

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


def pay(session: Document) -> str:
    """Show what is to be paid and the ways to do it."""
    heading = f"<h1>{escape(_description(session))}</h1>"
    amount = f"<p class=amount>{escape(_amount(session))}</p>"
    note = "<p><small>A stand-in for Stripe: no money moves.</small></p>"
    return _FRAME.format(title="Pay", body=heading + amount + _choices(session) + note)


def message(text: str) -> str:
    """Show one sentence."""
    return _FRAME.format(title="Faregate", body=f"<p>{escape(text)}</p>")


def _choices(session: Document) -> str:
    match session["status"], session["payment_status"]:
        case "open", _:
            choices = {
                "card": "Pay by card",
                "bank_transfer": "Pay by bank transfer (the money arrives later)",
                "cancel": "Cancel",
            }
        case "complete", "unpaid":
            choices = {
                "bank_transfer_arrives": "The bank transfer arrives",
                "bank_transfer_fails": "The bank transfer fails",
            }
        case "complete", _:
            return "<p>This payment is complete.</p>"
        case _:
            return "<p>This checkout has expired.</p>"
    buttons = [
        f'<button name="method" value="{value}"{" class=primary" if first else ""}>{text}</button>'
        for first, (value, text) in zip([True, False, False], choices.items(), strict=False)
    ]
    return f'<form method="post">{"".join(buttons)}</form>'


def _amount(session: Document) -> str:
    return f"{session['amount_total'] / 100:,.2f} {session['currency'].upper()}"


def _description(session: Document) -> str:
    return f"Order {session['client_reference_id'] or session['id']}"
