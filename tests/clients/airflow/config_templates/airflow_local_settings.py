"""A dictionary of the shape that Airflow 2 has here, with its loggers and filters, by harmless classes."""

import logging


class Masking(logging.Filter):
    """Hides what is secret, in the record itself, as Airflow's does."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = record.getMessage().replace("secret", "***")
        record.args = None
        return True


def _to(stream: str) -> dict[str, object]:
    return {"class": "logging.StreamHandler", "stream": f"ext://sys.{stream}", "filters": ["mask_secrets"]}


DEFAULT_LOGGING_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"mask_secrets": {"()": f"{__name__}.Masking"}},
    "handlers": {"console": _to("stdout"), "task": _to("stderr")},
    "loggers": {
        "airflow.task": {
            "handlers": ["task"],
            "level": "INFO",
            "propagate": True,
            "filters": ["mask_secrets"],
        },
    },
    "root": {"handlers": ["console"], "level": "INFO", "filters": ["mask_secrets"]},
}
