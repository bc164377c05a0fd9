"""Receipts as PDF: a page of A4 in a font that knows most scripts."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, cast
from unicodedata import normalize

from faregate.money import format_usd
from faregate.settings import SellerSettings

if TYPE_CHECKING:
    from fpdf import FPDF
    from fpdf.fonts import TTFFont

_Style = Literal["", "B"]
_FONT = "FiraGO"
_LABEL_MM = 45


class Receipts:
    """Writes receipts in the seller's name.

    The libraries are imported for the first one: they would be more than half of a cold start.
    """

    def __init__(self) -> None:
        self._seller = SellerSettings()

    async def write(self, receipt: dict[str, Any]) -> bytes:
        """Write a receipt, a row of api.receipts: the same row is the same file."""
        # A tenth of a second of computing; a thread keeps the event loop free.
        return await asyncio.to_thread(self._write, receipt)

    async def close(self) -> None:
        """Nothing is held open."""

    def _write(self, receipt: dict[str, Any]) -> bytes:
        from fpdf import FPDF
        from pymupdf_fonts.FiraGO_Bold import fontbuffer as bold
        from pymupdf_fonts.FiraGO_Regular import fontbuffer as regular

        paid_at = datetime.fromisoformat(receipt["paid_at"]).astimezone(UTC)
        pdf = FPDF()
        with TemporaryDirectory() as folder:  # the library reads fonts from files only
            for style, font in (("", regular), ("B", bold)):
                file = Path(folder, f"{_FONT}{style}.ttf")
                file.write_bytes(font)
                pdf.add_font(_FONT, style, file)
            pdf.set_text_shaping(use_shaping_engine=True)
            pdf.set_creation_date(paid_at)
            pdf.set_title(f"Receipt {receipt['number']}")
            pdf.set_author(self._seller.seller_name)
            pdf.set_lang("en")
            pdf.add_page()
            self._fill(pdf, receipt, paid_at)
            return bytes(pdf.output())

    def _fill(self, pdf: "FPDF", receipt: dict[str, Any], paid_at: datetime) -> None:
        _write_line(pdf, self._seller.seller_name, style="B")
        for line in filter(None, map(str.strip, self._seller.seller_address.split(";"))):
            _write_line(pdf, line)
        pdf.ln(10)
        _write_line(pdf, "Receipt", style="B", size=20)
        pdf.ln(4)
        _write_entry(pdf, "Number", receipt["number"])
        _write_entry(pdf, "Paid on", f"{paid_at:%Y-%m-%d %H:%M} UTC")
        provider = receipt["provider"].capitalize()
        _write_entry(pdf, "Paid with", f"{provider} {receipt['provider_payment_id']}")
        pdf.ln(4)
        _write_entry(pdf, "Customer", receipt["customer_name"])
        _write_entry(pdf, "E-mail", receipt["billing_email"])
        _write_entry(pdf, "Organization", receipt["organization_id"])
        pdf.ln(8)
        _write_amount(pdf, "Prepaid credits", receipt["amount_micros"])
        _write_amount(pdf, "Paid", receipt["amount_micros"], style="B")
        if receipt["refunded_micros"]:
            _write_amount(pdf, "Refunded since", -receipt["refunded_micros"])
        if receipt["disputed_micros"]:
            _write_amount(pdf, "Disputed since", -receipt["disputed_micros"])
        if receipt["kept_micros"] != receipt["amount_micros"]:
            _write_amount(pdf, "Paid and not returned", receipt["kept_micros"], style="B")
        if receipt["bonus_micros"]:
            pdf.ln(8)
            bonus = _usd(receipt["bonus_micros"])
            _write_line(pdf, f"With it came bonus credits of {bonus}, free of charge.")


def _write_line(pdf: "FPDF", text: str, *, style: _Style = "", size: int = 11) -> None:
    pdf.set_font(_FONT, style, size)
    pdf.multi_cell(0, size / 2, _printable(pdf, text), new_x="LMARGIN", new_y="NEXT")


def _write_entry(pdf: "FPDF", label: str, text: str) -> None:
    pdf.set_font(_FONT, "B", 11)
    pdf.cell(_LABEL_MM, 6, label)
    pdf.set_font(_FONT, "", 11)
    pdf.multi_cell(0, 6, _printable(pdf, text), new_x="LMARGIN", new_y="NEXT")


def _write_amount(pdf: "FPDF", label: str, micros: int, *, style: _Style = "") -> None:
    pdf.set_font(_FONT, style, 11)
    pdf.cell(pdf.epw / 2, 8, label, border="T")
    pdf.cell(0, 8, _usd(micros), border="T", align="R", new_x="LMARGIN", new_y="NEXT")


def _usd(micros: int) -> str:
    """Write an amount as people do: with cents, and more only where there is more."""
    text = format_usd(micros)
    cents = text[:-4]
    return f"USD {cents}{text[-4:].rstrip('0')}"


def _printable(pdf: "FPDF", text: str) -> str:
    """Spell in Latin letters what the font has no sign for."""
    from anyascii import anyascii

    known = cast("TTFFont", pdf.current_font).cmap
    composed = normalize("NFC", text)
    return "".join(each if ord(each) in known else anyascii(each) for each in composed)
