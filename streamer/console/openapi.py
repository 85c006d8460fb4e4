"""The API's operations: parameters and answers, and the OpenAPI document made from both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from streamer.console import payloads
from streamer.console.table import ORDERS, SIZE_MAX, SORTS

PREFIX = "/api/v1"
PAGE_MAX = 1_000_000
TEXT_MAX = 2_048


class BadRequest(ValueError):
    """A parameter is wrong; the text names it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query; one without a default is required."""

    name: str
    meaning: str
    default: str | int | None = None
    choices: tuple[str, ...] = ()
    most: int | None = None  # of an integer, which is at least 1

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON schema."""
        if self.most is not None:
            return {"type": "integer", "minimum": 1, "maximum": self.most, "default": self.default}
        found: dict[str, Any] = {"type": "string", "maxLength": TEXT_MAX}
        if self.choices:
            found = {"type": "string", "enum": list(self.choices)}
        return found if self.default is None else found | {"default": self.default}

    def read(self, query: Mapping[str, str]) -> str | int:
        """Its value in *query*; raises BadRequest."""
        text = query.get(self.name)
        if text is None:
            if self.default is None:
                raise BadRequest(f"{self.name}: is required")
            return self.default
        if self.most is not None:
            if not (text.isascii() and text.isdigit() and 1 <= int(text[:18]) <= self.most):
                raise BadRequest(f"{self.name}: must be an integer of 1 to {self.most}")
            return int(text)
        if self.choices and text not in self.choices:
            raise BadRequest(f"{self.name}: must be one of {', '.join(self.choices)}")
        if len(text) > TEXT_MAX:
            raise BadRequest(f"{self.name}: must be at most {TEXT_MAX} characters")
        return text


@dataclass(frozen=True, slots=True)
class Operation:
    """A GET of a path."""

    name: str
    summary: str
    answer: type[msgspec.Struct]
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (200,)

    def read(self, query: Mapping[str, str]) -> dict[str, str | int]:
        """The values of all parameters; raises BadRequest, also for one that is not known."""
        unknown = query.keys() - {each.name for each in self.parameters}
        if unknown:
            raise BadRequest(f"{min(unknown)[:40]}: is not a parameter")
        return {each.name: each.read(query) for each in self.parameters}


PAGE = Parameter("page", "The page's number.", 1, most=PAGE_MAX)
SIZE = Parameter("size", "Rows of a page.", 50, most=SIZE_MAX)
NAME = Parameter("name", "The flow's name.")
OPERATIONS: Mapping[str, Operation] = {
    "/status": Operation("status", "The health of the group, in a sentence.", payloads.Status),
    "/flows": Operation(
        "flows",
        "A page of the table of flows.",
        payloads.FlowsPage,
        (
            Parameter("search", "Words that the names contain, whatever their case.", ""),
            Parameter("sort", "The column that is sorted by.", "rate", ("flow", *SORTS)),
            Parameter("order", "Its direction.", "desc", ORDERS),
            PAGE,
            SIZE,
        ),
    ),
    "/flow": Operation("flow", "One flow.", payloads.FlowView, (NAME,), (200, 404)),
    "/flow/state": Operation(
        "flow_state",
        "The flow's saved row, and the gates of its LSTM over its last steps.",
        payloads.FlowState,
        (NAME,),
        (200, 404, 503),
    ),
    "/alerts": Operation(
        "alerts",
        "Alerts, and the ledger of each rule.",
        payloads.AlertsView,
        (
            Parameter("state", "Which.", "firing", ("firing", "resolved", "all")),
            Parameter("rule", "Only of this rule.", ""),
            Parameter("search", "What the flow's name contains, whatever its case.", ""),
            PAGE,
            SIZE,
        ),
    ),
    "/models": Operation("models", "Generations of weights and contests.", payloads.ModelsView),
    "/input": Operation("input", "What is read, and what is rejected.", payloads.InputView),
}


def document(version: str) -> dict[str, Any]:
    """The OpenAPI document."""
    answers = [operation.answer for operation in OPERATIONS.values()]
    _, schemas = msgspec.json.schema_components(
        [*answers, payloads.Problem], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamer console",
            "version": version,
            "description": "Read-only. Times are epoch seconds, null is unknown.",
        },
        "paths": {PREFIX + path: {"get": described(each)} for path, each in OPERATIONS.items()},
        "components": {"schemas": schemas},
    }


def described(operation: Operation) -> dict[str, Any]:
    """An operation as the document lists it."""
    statuses = dict.fromkeys((*operation.statuses, 400), payloads.Problem)
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            {
                "name": each.name,
                "in": "query",
                "required": each.default is None,
                "description": each.meaning,
                "schema": each.schema,
            }
            for each in operation.parameters
        ],
        "responses": {
            str(status): {
                "description": "The answer." if status == 200 else "Why there is none.",
                "content": {
                    "application/json": {
                        "schema": {
                            "$ref": "#/components/schemas/"
                            + (operation.answer if status == 200 else problem).__name__
                        }
                    }
                },
            }
            for status, problem in sorted(statuses.items())
        },
    }
