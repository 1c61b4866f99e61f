"""What of Airflow 2 sets up logging: to import it applies the `logging_config_class` of its configuration."""

# mypy: ignore-errors
import logging.config

import log_config

logging.config.dictConfig(log_config.LOGGING_CONFIG)
