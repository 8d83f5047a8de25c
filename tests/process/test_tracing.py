"""OpenTelemetry's own SDK in a real slot: spans of producer and handlers hang together, errors are told."""

import json
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from process.fleet import Fleet
from support.waiting import wait_for

from qslots import tracing

APPLICATION = """\
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from qslots import current_task
from qslots.hooks import after_fork


class ToFile(SpanExporter):
    def export(self, spans):
        with (HERE / "spans").open("a") as file:
            for span in spans:
                file.write(span.to_json(indent=None) + "\\n")
        return SpanExportResult.SUCCESS


@after_fork
def start(*_):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile()))
    trace.set_tracer_provider(provider)


@task
def child(n: int) -> None: ...


@task(max_failures=1)
def work(n: int) -> None:
    note("in", current_task().traceparent)
    child.using(with_settlement=True).enqueue(n)
    if n == 1:
        raise KeyError("n")
    if n == 2:
        raise Postpone(delay="1h")


@task(queue="work")
async def push(n: int) -> None:
    note("pushed", n)


@task(queue="packs")
def together(tasks: list[Task]) -> None:
    note("together", len(tasks))
"""


def test_spans_of_producer_and_handlers_hang_together(fleet: Fleet) -> None:
    fleet.launch(APPLICATION, ("work", "child"), ("packs",))
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    assert not tracing.is_on(), "it is only imported"
    tracer = provider.get_tracer("test")

    def spans() -> list[dict[str, Any]]:
        path = fleet.folder / "spans"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def named(name: str, count: int = 1) -> list[dict[str, Any]]:
        wait_for(lambda: sum(span["name"] == name for span in spans()) >= count, lambda: f"{name}; {spans()}", 30.0)
        return [span for span in spans() if span["name"] == name]

    with tracer.start_as_current_span("request") as request:
        put = [fleet.app.work.enqueue(n) for n in range(3)]
        fleet.app.push.enqueue(7)
        fleet.app.together.enqueue_many([("a",), ("b",)])
    trace = f"0x{request.get_span_context().trace_id:032x}"
    runs = {span["attributes"]["messaging.message.id"]: span for span in named("process work", 4)}
    good, bad, later = (runs[each.id] for each in put)
    assert all(span["context"]["trace_id"] == trace for span in runs.values())
    assert (good["kind"], good["status"]["status_code"]) == ("SpanKind.CONSUMER", "UNSET")
    assert good["parent_id"] == f"0x{(put[0].traceparent or '').split('-')[2]}"
    assert good["attributes"] == {
        "messaging.system": "qslots", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "work", "messaging.message.id": put[0].id,
    }  # fmt: skip
    assert (bad["status"]["status_code"], bad["attributes"]["error.type"]) == ("ERROR", "KeyError")
    assert [event["name"] for event in bad["events"]] == ["exception"]
    assert later["status"]["status_code"] == "UNSET"
    assert not later["events"]
    sends = {span["parent_id"]: span for span in named("send child", 3)}
    [run] = named("process child")
    send = sends[good["context"]["span_id"]]
    assert (run["parent_id"], run["context"]["trace_id"]) == (send["context"]["span_id"], trace)
    assert send["kind"] == "SpanKind.PRODUCER"
    packs = named("process packs")
    assert sum(span["attributes"]["messaging.batch.message_count"] for span in packs) == 2
    assert {link["context"]["trace_id"] for span in packs for link in span["links"]} == {trace}
    assert all(span["context"]["trace_id"] != trace and span["parent_id"] is None for span in packs)
    assert fleet.runs("in", put[0].traceparent)
    fleet.wait_empty("child")
    [fate] = fleet.fates().values()
    assert "tracing.py" not in fate.error
