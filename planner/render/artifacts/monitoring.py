"""What Compose's profile `monitoring` mounts: Prometheus' configuration and a Grafana dashboard.

The dashboard shows the engine's own metrics beside the planned figures. Metric names are facts of the
engines' documentation, kept in catalog/monitoring.yaml.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from planner.render.launch import Launch
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.companion import Panel
    from planner.spec.plan import Plan

FOLDER = "monitoring"
DATASOURCE = "planner-prometheus"
HALF_WIDTH, HEIGHT = 12, 8
"""Of Grafana's grid, which is 24 wide."""


def monitored(plan: Plan) -> bool:
    """True for an engine that publishes metrics by default and whose panels are catalogued."""
    return bool(panels(plan)) and plan.resolved.engine.metrics_path is not None


def paths(plan: Plan) -> tuple[str, ...]:
    """The files that are mounted; none for an engine without a dashboard."""
    names = ("prometheus.yaml", "datasource.yaml", "dashboards.yaml", "dashboard.json")
    return tuple(f"{FOLDER}/{name}" for name in names) if monitored(plan) else ()


def panels(plan: Plan) -> tuple[Panel, ...]:
    """The catalogued panels of the plan's engine."""
    from planner.sources.companions import monitoring_panels

    return monitoring_panels(plan.best.engine.name)


def files(plan: Plan, launch: Launch, services: list[str]) -> dict[str, str]:
    """Path → text of everything that the profile mounts; `services` are the servers' Compose names."""
    return {
        f"{FOLDER}/prometheus.yaml": fill(
            "monitoring/prometheus.yaml.j2",
            job=launch.engine,
            metrics_path=plan.resolved.engine.metrics_path,
            targets=[f"{service}:{launch.port}" for service in services],
        ),
        f"{FOLDER}/datasource.yaml": _json_is_yaml(
            {
                "apiVersion": 1,
                "datasources": [
                    {
                        "name": "Prometheus",
                        "uid": DATASOURCE,
                        "type": "prometheus",
                        "access": "proxy",
                        "url": "http://prometheus:9090",
                        "isDefault": True,
                    }
                ],
            }
        ),
        f"{FOLDER}/dashboards.yaml": _json_is_yaml(
            {
                "apiVersion": 1,
                "providers": [
                    {"name": "planner", "type": "file", "options": {"path": "/etc/grafana/provisioning/planner"}}
                ],
            }
        ),
        f"{FOLDER}/dashboard.json": _json_is_yaml(dashboard(plan)),
    }


def dashboard(plan: Plan) -> dict[str, Any]:
    """Grafana's model of the dashboard: one time series a panel, a red line where the plan sets a limit."""
    best = plan.best
    planned = {
        "max_num_seqs": float(best.limits.max_num_seqs),
        "ttft_s": best.performance.ttft_ms_at(99) / 1000 if best.performance else None,
        "itl_s": best.performance.itl_ms_at(99) / 1000 or None if best.performance else None,
        "output_tokens_per_s": best.performance.output_tokens_per_s.value if best.performance else None,
    }
    return {
        "uid": f"planner-{best.engine.name}",
        "title": f"{best.engine.name} {best.engine.version}: {best.model.served_name}",
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": [
            _panel(index, panel, planned.get(panel.planned) if panel.planned else None)
            for index, panel in enumerate(panels(plan))
        ],
    }


def _panel(index: int, panel: Panel, limit: float | None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if limit is not None:
        steps.append({"color": "red", "value": round(limit, 4)})
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title + (" (line: the plan)" if limit is not None else ""),
        "datasource": {"type": "prometheus", "uid": DATASOURCE},
        "gridPos": {"x": HALF_WIDTH * (index % 2), "y": HEIGHT * (index // 2), "w": HALF_WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {"thresholdsStyle": {"mode": "line" if limit is not None else "off"}},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query.expr, "legendFormat": query.legend}
            for number, query in enumerate(panel.queries)
        ],
    }


def _json_is_yaml(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
