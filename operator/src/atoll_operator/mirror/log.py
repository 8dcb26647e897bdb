"""Log lines as the operator writes them: JSON with message, severity and timestamp."""

import json
import logging
from datetime import UTC, datetime

_SEVERITIES = {"WARNING": "warn", "CRITICAL": "fatal"}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "message": record.getMessage(),
            "severity": _SEVERITIES.get(record.levelname, record.levelname.lower()),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "logger": record.name,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: str) -> None:
    """`json` or `text` lines on standard error."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Each line of theirs is a request.
    for name in ("botocore", "urllib3", "kubernetes"):
        logging.getLogger(name).setLevel(logging.WARNING)
