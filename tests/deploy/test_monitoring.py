"""The alerts, the dashboard and the autoscalers name metrics and labels that the services have."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, MatrixSelector, ParenExpr, VectorSelector

import reimagen_common.metrics
import reimagen_generator.metrics
import reimagen_retriever.metrics
from reimagen_retriever.index import jvm

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ROOT / "deploy/kubernetes/components"
# What Prometheus adds to each series, and a histogram to its buckets.
ADDED = {"job", "pod", "le"}
# Of Prometheus and the kubelet.
FOREIGN = {
    "up": {"job"},
    "kubelet_volume_stats_available_bytes": {"persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"persistentvolumeclaim"},
}


def known() -> dict[str, set[str]]:
    """Return the labels of each series of the services."""
    series = {name: set(labels) for name, labels in FOREIGN.items()}
    for module in (reimagen_common.metrics, reimagen_retriever.metrics, reimagen_generator.metrics):
        for metric in vars(module).values():
            if isinstance(metric, Counter | Gauge | Histogram):
                (family,) = metric.describe()
                suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}[
                    family.type
                ]
                series |= {family.name + suffix: {*metric._labelnames, *ADDED} for suffix in suffixes}
    series |= {family.name: ADDED for family in REGISTRY.collect() if family.name.startswith("process_")}
    for part in ("used", "committed", "max"):
        assert 'f"jvm_memory_{name}_bytes"' in inspect.getsource(jvm)
        series[f"jvm_memory_{part}_bytes"] = ADDED
    return series


def selectors(query: Expr) -> Iterator[VectorSelector]:
    """Yield what a query reads."""
    match query:
        case VectorSelector():
            yield query
        case MatrixSelector():
            yield query.vector_selector
        case Call():
            for argument in query.args:
                yield from selectors(argument)
        case AggregateExpr() | ParenExpr():
            yield from selectors(query.expr)
        case BinaryExpr():
            yield from selectors(query.lhs)
            yield from selectors(query.rhs)


def labels(query: Expr) -> set[str]:
    """Return the labels that a query groups by."""
    match query:
        case AggregateExpr():
            return labels(query.expr) | set(query.modifier.labels if query.modifier else ())
        case Call():
            return {label for argument in query.args for label in labels(argument)}
        case BinaryExpr():
            return labels(query.lhs) | labels(query.rhs)
        case ParenExpr():
            return labels(query.expr)
    return set()


def alerts() -> list[dict[str, Any]]:
    rule = yaml.safe_load((COMPONENTS / "monitoring/alerts.yaml").read_text())
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    (group,) = rule["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def targets() -> list[dict[str, str]]:
    dashboard = json.loads((COMPONENTS / "monitoring/dashboard.json").read_text())
    return [target for panel in dashboard["panels"] for target in panel["targets"]]


QUERIES = [each["expr"] for each in alerts()] + [
    # Grafana puts a duration in its place.
    target["expr"].replace("$__rate_interval", "5m")
    for target in targets()
]


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_reads_series_and_labels_that_exist(text: str) -> None:
    query = promql_parser.parse(text)
    series = known()
    read = list(selectors(query))
    assert read
    for selector in read:
        assert selector.name in series
        assert {matcher.name for matcher in selector.matchers.matchers} <= series[selector.name]
    assert all(labels(query) <= series[selector.name or ""] for selector in read)


def test_a_legend_names_labels_that_its_query_keeps() -> None:
    for target in targets():
        query = promql_parser.parse(target["expr"].replace("$__rate_interval", "5m"))
        named = set(re.findall(r"\{\{ ?(\w+) ?\}\}", target["legendFormat"]))
        assert named <= (labels(query) or {"pod"}), target["expr"]


def test_the_instructions_for_operators_explain_every_alert() -> None:
    page = (ROOT / "docs/how-to/operate.md").read_text()
    assert re.findall(r"^\| `(Reimagen\w+)` \|", page, re.MULTILINE) == [each["alert"] for each in alerts()]
    for each in alerts():
        assert each.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert each["labels"]["severity"] in ("critical", "warning")
        named = set(re.findall(r"\$labels\.(\w+)", each["annotations"]["summary"]))
        read = selectors(promql_parser.parse(each["expr"]))
        kept = labels(promql_parser.parse(each["expr"])) or {m.name for s in read for m in s.matchers.matchers}
        assert named <= kept


def test_the_generators_autoscaler_reads_a_gauge_of_each_pod() -> None:
    scalers = yaml.safe_load_all((COMPONENTS / "autoscaling/autoscalers.yaml").read_text())
    names = [
        metric["pods"]["metric"]["name"]
        for scaler in scalers
        for metric in scaler["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    gauges = {metric._name for metric in vars(reimagen_generator.metrics).values() if isinstance(metric, Gauge)}
    assert len(names) == 1
    assert set(names) <= gauges


def test_prometheus_reads_the_metrics_with_a_key_at_ports_that_the_pods_name() -> None:
    monitors = list(yaml.safe_load_all((COMPONENTS / "monitoring/monitors.yaml").read_text()))
    assert [each["metadata"]["name"] for each in monitors] == ["retriever", "generator"]
    for each in monitors:
        assert (each["apiVersion"], each["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
        assert each["spec"].keys() == {"jobLabel", "selector", "podMetricsEndpoints"}
        assert each["spec"]["selector"] == {"matchLabels": {each["spec"]["jobLabel"]: each["metadata"]["name"]}}
        (endpoint,) = each["spec"]["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
        assert endpoint["authorization"]["credentials"] == {"name": "reimagen-metrics-key", "key": "key"}
