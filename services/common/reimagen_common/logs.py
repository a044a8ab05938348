"""Write logs to stderr as one line per record in logfmt, which people and programs can read.

A formatter of the standard library is enough: most records come from libraries that use `logging`, which structlog
would have to wrap as well.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from reimagen_common import request_id, tracing
from reimagen_common.access.caller import current_caller
from reimagen_common.secrets import masked

Level = Literal["debug", "info", "warning", "error"]

# The attributes of every record. All others come from `extra=` and are written as fields.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class _Logfmt(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "msg": record.getMessage(),
        }
        # All code, including libraries, logs in the context of the request that it works on.
        names = {"request_id": request_id.current(), "trace_id": tracing.trace_id(), "key": current_caller().id}
        fields |= {key: name for key, name in names.items() if name}
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else masked(str(value))
    if text and text.isprintable() and not any(character in text for character in ' "=\\'):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def configure_logging(service: str, level: Level) -> None:
    """Write all log records and warnings of this process to stderr, one line each.

    Values in `extra={"key": value}` become fields of the line. API keys and passwords in URLs are masked. Run uvicorn
    with `log_config=None`, so that its records are written in the same format.

    Args:
        service: The service name in each line.
        level: The minimum severity.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Logfmt(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
