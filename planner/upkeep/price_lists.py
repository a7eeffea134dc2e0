"""Public price lists: on-demand Linux prices by instance type and region, whatever form the list has.

Reads four forms, told apart by their content: AWS's offer file (JSON), Azure's Retail Prices (JSON), a
SkyPilot catalog (CSV), and a plain CSV with the columns provider, instance_type, usd_per_hour, region and
optionally date and source. Spot, reserved, Windows and dedicated offers are passed over.
Forms: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-service-price-list-file-for-services.html,
https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices,
https://github.com/skypilot-org/skypilot-catalog.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any, Final

from planner.errors import FormatError, UsageError
from planner.records import dataclass
from planner.sources import network

MAX_FILE_BYTES: Final = 1 << 30
MAX_PAGE_BYTES: Final = 256 << 20
MAX_PAGES: Final = 500
AWS_DATE: Final = 10
"""`publicationDate` is a timestamp; its first ten characters are the day."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD per hour of one instance type, on demand, in `region` (empty: the list names none)."""

    provider: str
    instance: str
    usd_per_hour: float
    region: str = ""
    date: str = ""
    source: str = ""


def read_prices(place: str, provider: str | None = None) -> tuple[Price, ...]:
    """The prices of the list at `place` (a file, or an https address); `provider` where the list names none.

    Raises UsageError for a place that is none or a missing provider, FormatError for a list of no known
    form, NetworkError when the address does not answer.
    """
    found: list[Price] = []
    for text in _pages(place):
        found += _parsed(text, place, provider)
    if not found:
        raise FormatError(f"{place} holds no on-demand prices that we can read")
    return tuple(found)


def _pages(place: str) -> Iterator[str]:
    """The text of the list, and of the pages that it links to."""
    if not place.startswith(("https://", "http://")):
        path = Path(place)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise UsageError(
                    f"{place} is larger than {MAX_FILE_BYTES >> 20} MiB; cut it to the instances in question"
                )
            yield path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{place!a} cannot be read: {type(error).__name__}") from None
        return
    if network.offline():
        raise UsageError(f"{place} needs the network, which PLANNER_OFFLINE forbids")
    address: str | None = place
    for _ in range(MAX_PAGES):
        if not address:
            return
        text = network.get(address, limit=MAX_PAGE_BYTES).body.decode("utf-8", errors="replace")
        yield text
        address = _next(text)
    raise FormatError(f"{place} has more than {MAX_PAGES} pages")


def _next(text: str) -> str | None:
    if not text.lstrip().startswith("{"):
        return None
    link = json.loads(text).get("NextPageLink")
    return link if isinstance(link, str) and link.startswith("https://") else None


def _parsed(text: str, place: str, provider: str | None) -> list[Price]:
    if not text.lstrip().startswith("{"):
        return list(_csv(text, place, provider))
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError(f"{place} is not valid JSON") from None
    try:
        if "Items" in data:
            return list(_azure(data))
        if "products" in data and "terms" in data:
            return list(_aws(data))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"{place} is damaged: {type(error).__name__} {error}") from None
    raise FormatError(f"{place} is no price list of AWS or Azure")


def _aws(data: Mapping[str, Any]) -> Iterator[Price]:
    day = str(data.get("publicationDate", ""))[:AWS_DATE]
    terms = data["terms"].get("OnDemand", {})
    for sku, product in data["products"].items():
        a = product.get("attributes", {})
        plain = (a.get("operatingSystem"), a.get("tenancy"), a.get("preInstalledSw"), a.get("capacitystatus"))
        if plain != ("Linux", "Shared", "NA", "Used") or not a.get("instanceType"):
            continue
        for term in terms.get(sku, {}).values():
            for dimension in term["priceDimensions"].values():
                usd = _usd(dimension["pricePerUnit"].get("USD", 0), a["instanceType"])
                if usd > 0 and dimension.get("unit") in ("Hrs", "Hours"):
                    source = "AWS Price List, AmazonEC2 offer file"
                    yield Price("aws", a["instanceType"], usd, a.get("regionCode", ""), day, source)


def _azure(data: Mapping[str, Any]) -> Iterator[Price]:
    for item in data["Items"]:
        names = f"{item.get('skuName', '')} {item.get('productName', '')} {item.get('meterName', '')}"
        other = any(word in names for word in ("Spot", "Low Priority", "Windows", "Dedicated Host"))
        if item.get("type") != "Consumption" or item.get("unitOfMeasure") != "1 Hour" or other:
            continue
        if item.get("currencyCode", "USD") == "USD" and item.get("armSkuName"):
            usd, region = _usd(item["retailPrice"], item["armSkuName"]), item.get("armRegionName", "")
            if usd > 0:
                yield Price("azure", item["armSkuName"], usd, region, "", "https://prices.azure.com/api/retail/prices")


def _csv(text: str, place: str, provider: str | None) -> Iterator[Price]:
    rows = csv.DictReader(io.StringIO(text))
    columns = set(rows.fieldnames or ())
    if {"InstanceType", "Price", "Region"} <= columns:
        if not provider:
            raise UsageError("a SkyPilot catalog names no provider; give it with --provider")
        source = f"https://github.com/skypilot-org/skypilot-catalog ({provider}/vms.csv)"
        names = ("InstanceType", "Price", "Region")
    elif {"instance_type", "usd_per_hour", "region"} <= columns:
        source, names = "", ("instance_type", "usd_per_hour", "region")
    else:
        raise FormatError(f"{place} has none of the columns of a price list (instance_type, usd_per_hour, region)")
    for number, row in enumerate(rows, 2):
        instance, cost, region = (row[name] or "" for name in names)
        owner = row.get("provider") or provider
        if not owner:
            raise UsageError(f"{place}:{number} names no provider; add the column, or give --provider")
        try:
            usd = _usd(cost or 0, f"{owner} {instance}")
        except ValueError as error:
            raise FormatError(f"{place}:{number}: {error}") from None
        if usd > 0:
            yield Price(owner, instance, usd, region, row.get("date") or "", row.get("source") or source)


def _usd(cost: Any, instance: str) -> float:
    """`cost` of `instance` as a number, 0 for none. Raises ValueError naming both for what is no price."""
    try:
        usd = float(cost)
    except (TypeError, ValueError):
        usd = -1.0
    if not 0 <= usd < inf:
        raise ValueError(f"{str(cost)[:40]!r} is no price of {str(instance)[:80]}; it is USD per hour, 0 or more")
    return usd
