"""The API keeps to its OpenAPI document, over HTTP and from a log."""

from __future__ import annotations

import concurrent.futures
import gzip
import http.client
import json
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode, urlsplit

import jsonschema
import msgspec
import pytest

from streamer.config.schema import open_client
from streamer.console import condition
from streamer.console.openapi import OPERATIONS
from streamer.console.store import Store
from streamer.core.types import Message
from tests.console.scene import (
    ANSI,
    AT,
    RTL,
    SCRIPT,
    STEP_S,
    console,
    create_topics,
    decoded,
    forecast_messages,
    publish,
    records,
    report,
    settings,
)

FLOWS = ["edge1/xe-0/in", "edge1/xe-0/out", "edge2/xe-1/in", SCRIPT, ANSI, RTL]
STEPS = 40


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A console on a log that holds what a group has published."""
    config = settings(f"sqlite:///{tmp_path_factory.mktemp('console') / 'log.db'}")
    create_topics(config)
    publish(config, FLOWS, range(STEPS))
    with console(config) as found:
        yield found


def get(url, **headers):
    """Status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def ask(served, path, **parameters):
    """An answer of the API, held against the document."""
    _, url, _ = served
    query = "?" + urlencode(parameters) if parameters else ""
    status, _, body = get(f"{url}/api/v1{path}{query}")
    _, _, document = get(f"{url}/api/v1/openapi.json")
    document = json.loads(document)
    answers = document["paths"][f"/api/v1{path}"]["get"]["responses"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    jsonschema.validate(json.loads(body), {**schema, "components": document["components"]})
    return status, decoded(body)


def test_the_document_is_openapi(served):
    """Every operation is there, and every reference leads somewhere."""
    _, url, _ = served
    _, _, body = get(f"{url}/api/v1/openapi.json")
    document = json.loads(body)
    assert document["openapi"].startswith("3.1")
    assert {f"/api/v1{path}" for path in OPERATIONS} == document["paths"].keys()
    schemas = document["components"]["schemas"]
    for reference in set(json.dumps(document).split('"#/components/schemas/')[1:]):
        assert reference.partition('"')[0] in schemas
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_status_is_a_sentence(served):
    status, found = ask(served, "/status")
    assert status == 200
    assert found["flows"] == len(FLOWS)
    assert found["sentence"] == found["findings"][0]["text"]
    assert {each["role"]: each["state"] for each in found["topics"]} == dict.fromkeys(
        ("forecasts", "alerts", "scores", "metrics", "models", "rejects"), "following"
    )
    assert [each["ahead_s"] for each in found["horizons"]] == [60, 240, 720]
    assert {each["name"] for each in found["instances"]} == {"edge-a", "edge-b"}
    assert found["alerts"] == {"critical": 1, "warning": 1, "info": 1}
    assert found["rejects"] == {"wrong_type": 1, "not_json": 1}


def test_flows_are_sorted_and_paged(served):
    """Each flow is on one page, in the order that was asked for."""
    rows = []
    for page in (1, 2, 3):
        _, found = ask(served, "/flows", sort="rate", order="desc", size=2, page=page)
        rows += found["rows"]
    assert found["matched"] == len(rows) == len(FLOWS)
    assert [row["rate"] for row in rows] == sorted((r["rate"] for r in rows), reverse=True)
    _, found = ask(served, "/flows", sort="flow", order="asc", size=500)
    assert [row["flow"] for row in found["rows"]] == sorted(FLOWS, key=str.casefold)
    assert all(len([x for x in row["recent"] if x]) == STEPS for row in found["rows"])
    assert ask(served, "/flows", page=9)[1]["rows"] == []


@pytest.mark.parametrize("sort", ["error", "skill", "coverage", "chance", "unusual", "made_at"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_every_column_sorts(served, sort, order):
    _, found = ask(served, "/flows", sort=sort, order=order)
    values = [abs(row[sort]) for row in found["rows"] if row[sort] is not None]
    assert len(found["rows"]) == len(FLOWS)
    assert values == pytest.approx(sorted(values, reverse=order == "desc"), abs=1e-5)


@pytest.mark.parametrize(
    ("search", "number"),
    [("edge1", 3), ("XE in", 2), ("xe-0 out", 1), ("<script", 1), ("العربية", 1), ("no such", 0)],
)
def test_a_search_finds_each_word(served, search, number):
    assert ask(served, "/flows", search=search)[1]["matched"] == number


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_has_its_past_and_its_future(served, flow):
    """Whatever its name."""
    status, found = ask(served, "/flow", name=flow)
    assert status == 200
    assert found["flow"] == flow
    assert found["made_at"] == AT + (STEPS - 1) * STEP_S
    assert found["first_at"] == AT
    assert len(found["rates"]) == STEPS
    assert [len(each) for each in found["predicted"]] == [STEPS + 12] * 3
    assert found["rates"][-1] == pytest.approx(found["rate"], rel=1e-3)
    assert found["predicted"][1][20] == pytest.approx(found["rates"][20], rel=2e-3)
    assert found["quantiles"][2]["rates"][0] == pytest.approx(found["predicted"][1][-12], rel=0.5)
    chances = [each["chance"] for each in found["chances"]]
    assert chances[:3] == sorted(chances[:3], reverse=True)
    assert [each["span_s"] for each in found["peaks"]] == [240, 720]


def test_a_flow_that_nobody_forecast_is_missing(served):
    assert ask(served, "/flow", name="none") == (
        404,
        {"error": "no forecast of this flow has been read"},
    )
    assert ask(served, "/flow/state", name="none")[0] == 404


@pytest.mark.slow
def test_a_saved_row_that_cannot_be_read_says_why(served):
    """There is no state topic on this log."""
    status, found = ask(served, "/flow/state", name=FLOWS[0])
    assert status == 503
    assert "streamer" in found["error"] or "no such" in found["error"]


@pytest.mark.parametrize(
    ("path", "parameters", "named"),
    [
        ("/flows", {"page": 0}, "page"),
        ("/flows", {"page": "x"}, "page"),
        ("/flows", {"size": 501}, "size"),
        ("/flows", {"sort": "colour"}, "sort"),
        ("/flows", {"order": "up"}, "order"),
        ("/flows", {"search": "x" * 3000}, "search"),
        ("/flows", {"what": 1}, "what"),
        ("/flow", {}, "name"),
        ("/alerts", {"state": "odd"}, "state"),
    ],
)
def test_a_wrong_parameter_is_named(served, path, parameters, named):
    status, found = ask(served, path, **parameters)
    assert status == 400
    assert found["error"].startswith(f"{named}: ")


def test_alerts_have_a_ledger(served):
    _, found = ask(served, "/alerts")
    assert [each["severity"] for each in found["alerts"]] == ["critical", "warning", "info"]
    assert found["ledger"][0] | {"lead_mean_s": 0} == {
        "rule": "spike",
        "raised": 9,
        "true": 6,
        "late": 1,
        "false": 2,
        "missed": 2,
        "precision": 6 / 9,
        "recall": 6 / 8,
        "lead_mean_s": 0,
    }
    assert ask(served, "/alerts", state="resolved")[1]["matched"] == 1
    assert ask(served, "/alerts", rule="capacity")[1]["matched"] == 1
    assert ask(served, "/alerts", state="all", search="EDGE2")[1]["matched"] == 1


def test_models_and_input(served):
    _, found = ask(served, "/models")
    assert found["incumbent"]["generation"] == 2
    assert [each["generation"] for each in found["contests"]] == [3, 2]
    assert [each["generation"] for each in found["scores"]] == [1, 2, 3]
    _, found = ask(served, "/input")
    assert found["verdicts"] == {"rated": 142_000, "wrapped": 1_800}
    assert found["invalid"] == {"not_json": 14}
    assert [each["value"] for each in found["sample"]] == ["\\xff\\xfe\x00", '{"flow": 3}<b>']


def test_the_console_has_metrics_and_probes(served):
    shown, url, _ = served
    shown.count()
    _, headers, body = get(f"{url}/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    text = body.decode()
    assert f'streamer_console_records_total{{topic="forecasts"}} {len(FLOWS) * STEPS:.1f}' in text
    assert f"streamer_console_flows {len(FLOWS):.1f}" in text
    assert 'streamer_console_requests_total{status="200"}' in text
    assert get(f"{url}/livez")[0] == get(f"{url}/readyz")[0] == 200


@pytest.mark.parametrize("path", ["/", "/flows", "/flow", "/alerts", "/models", "/input"])
def test_a_page_allows_nothing_from_elsewhere(served, path):
    """Scripts and styles come from the console alone, and none stands in the page."""
    _, url, _ = served
    status, headers, body = get(url + path)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    text = body.decode()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert " style=" not in text
    assert "<script>" not in text


def test_files_are_compressed_and_cached(served):
    """The chart library of the installed package too."""
    _, url, _ = served
    status, headers, body = get(f"{url}/static/plotly.min.js", **{"Accept-Encoding": "gzip"})
    assert status == 200
    assert headers["content-encoding"] == "gzip"
    assert b"plotly" in gzip.decompress(body)[:500]
    again = get(f"{url}/static/plotly.min.js", **{"If-None-Match": headers["etag"]})
    assert again[0] == 304
    for name in ("../settings.py", "%2e%2e/settings.py", "nothing.js", ".", ""):
        assert get(f"{url}/static/{name}")[0] == 404


def test_only_get_is_answered(served):
    _, url, _ = served
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        asked = urllib.request.Request(f"{url}/api/v1/status", b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked)
        refused.value.close()
        assert refused.value.code == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("localhost", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_other_host_names_are_refused(served, host, status):
    """Or a page elsewhere could read the console through a visitor's browser."""
    _, url, _ = served
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.putrequest("GET", "/api/v1/status", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.slow
def test_a_name_that_the_settings_have_is_answered(tmp_path):
    config = settings(f"sqlite:///{tmp_path / 'log.db'}", console__hosts='["console.example"]')
    create_topics(config)
    with console(config) as (_, url, _):
        for host, status in (("console.example:8080", 200), ("other.example", 421)):
            assert get(f"{url}/livez", Host=host)[0] == status


@pytest.mark.slow
def test_a_hundred_pages_cost_little_more_than_one(served, monkeypatch):
    """What many ask for at once is computed once."""
    shown, url, _ = served
    time.sleep(1.1)  # what was computed before is forgotten
    computed = []
    original = condition.findings
    monkeypatch.setattr(
        "streamer.console.views.findings", lambda store: computed.append(1) or original(store)
    )
    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        found = list(threads.map(lambda _: get(f"{url}/api/v1/status")[0], range(100)))
    assert found == [200] * 100
    assert len(computed) < 20
    assert shown.store.flows.forecasts == len(FLOWS) * STEPS


@pytest.mark.slow
def test_new_records_appear(tmp_path):
    """And a console that starts late reads what is there, and no record twice."""
    config = settings(f"sqlite:///{tmp_path / 'log.db'}")
    create_topics(config)
    client = open_client(config)
    with console(config) as (shown, url, lines):
        assert decoded(get(f"{url}/api/v1/status")[2])["severity"] == "warning"
        client.send(forecast_messages(["late"], range(5), config))
        client.flush()
        until = time.monotonic() + 20
        while len(shown.store.flows) < 1 and time.monotonic() < until:
            time.sleep(0.05)
        assert shown.store.flows.forecasts == 5
        assert shown.store.flows.repeated == 0
        assert ("console.caught_up", {"topic": "traffic.forecasts", "records": 0}) in lines.lines
    with console(config) as (shown, _, _):
        assert shown.store.flows.forecasts == 5
    client.close()


def test_it_starts_with_the_newest_forecasts(tmp_path):
    """However many there are."""
    config = settings(f"sqlite:///{tmp_path / 'log.db'}", console__catch_up_max="1000")
    create_topics(config)
    client = open_client(config)
    flows = [f"flow{n}" for n in range(100)]
    client.send(forecast_messages(flows, range(40), config))
    client.close()
    with console(config) as (shown, _, _):
        assert len(shown.store.flows) == 100
        assert 1000 <= shown.store.flows.forecasts <= 1100
        assert int(shown.store.flows.columns["made_at"].max()) == AT + 39 * STEP_S


def test_topics_that_are_missing_are_waited_for(tmp_path):
    """A page reports it, and what is there works."""
    config = settings(f"sqlite:///{tmp_path / 'log.db'}")
    open_client(config).close()
    with console(config) as (_, url, lines):
        found = decoded(get(f"{url}/api/v1/status")[2])
        assert found["severity"] == "critical"
        assert "does not exist" in found["sentence"]
        events = [fields["kind"] for event, fields in lines.lines if "unavailable" in event]
        assert events == ["topic_missing"] * 6
        for path in ("flows", "alerts", "models", "input"):
            assert get(f"{url}/api/v1/{path}")[0] == 200


def test_a_log_that_is_away_is_waited_for(tmp_path):
    with console(settings(f"sqlite:///{tmp_path / 'none.db'}")) as (_, url, _):
        found = decoded(get(f"{url}/api/v1/status")[2])
        assert found["sentence"].startswith("The log cannot be read")
        assert get(f"{url}/")[0] == 200


def test_topics_of_junk_are_counted(tmp_path):
    """On every topic; the console stays up, and good records beside are read."""
    config = settings(f"sqlite:///{tmp_path / 'log.db'}")
    create_topics(config)
    client = open_client(config)
    junk = [b"\x00\xff", b"{", b"[[[[", b'{"flow":1}', b"", b"streamer,a=b c=d 1"]
    topics = (config.forecasts.topic, config.alerts.topic, config.scores.topic)
    topics += (config.metrics.topic, config.models_topic, config.rejects_topic)
    for topic in topics:
        client.send([Message(topic, 0, b"k%d" % n, value) for n, value in enumerate(junk)])
    client.send(forecast_messages(["good"], range(3), config))
    client.close()
    with console(config) as (shown, url, _):
        found = decoded(get(f"{url}/api/v1/status")[2])
        assert {each["role"]: sum(each["ignored"].values()) for each in found["topics"]} == (
            dict.fromkeys((each["role"] for each in found["topics"]), len(junk))
        )
        assert shown.store.flows.forecasts == 3


def condition_of(store, now_s, **topics):
    """The worst finding."""
    store.now = lambda: now_s
    for topic in store.topics.values():
        topic.state = "following"
    for role, state in topics.items():
        store.topics[role].state = state
    return condition.findings(store)[0]


def test_the_sentence_is_the_worst_that_is_wrong(tmp_path):
    """From all is well to nothing comes any more."""
    store, now = Store(settings(f"sqlite:///{tmp_path / 'log.db'}")), time.time()
    assert "No forecast has been published" in condition_of(store, now).text
    store.read("forecasts", records(forecast_messages(["a"], range(3), store.config)))
    assert condition_of(store, now).severity == "ok"
    assert "has come for 10 min" in condition_of(store, now + 600).text
    assert condition_of(store, now, scores="missing").severity == "warning"
    metrics = [Message(store.config.metrics.topic, 0, b"a", report("edge-a", at_s=now - 300))]
    store.read("metrics", records(metrics))
    assert "edge-a has not reported for 5 min" in condition_of(store, now).text
    late = report("edge-b", at_s=now).replace(b"lag_seconds=2.0", b"lag_seconds=900.0")
    store.read("metrics", records([Message("m", 0, b"b", late)]))
    found = [each.text for each in condition.findings(store)]
    assert "The forecaster edge-b is 15 min behind on traffic.counters/1." in found


def test_answers_are_small_json(served):
    """Numbers have six digits; NaN does not occur."""
    _, url, _ = served
    for path in ("status", "flows", "alerts", "models", "input"):
        body = get(f"{url}/api/v1/{path}")[2]
        assert b"NaN" not in body
        msgspec.json.decode(body)
