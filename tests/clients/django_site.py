"""django_site.py PORT HANDLER: a site that logs by a handler of this class, asked for three pages."""

# mypy: ignore-errors
from __future__ import print_function

import io
import logging
import sys

import django
from django.conf import settings
from django.http import HttpResponse

try:
    from django.urls import re_path
except ImportError:  # Django 1
    from django.conf.urls import url as re_path


def boom(request):
    raise ValueError("boom")


def ok(request):
    logging.getLogger("app").info("ok", extra={"request": request, "number": 5})
    return HttpResponse("ok")


urlpatterns = [re_path("^boom$", boom), re_path("^ok$", ok)]
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="k",  # noqa: S106 - of nothing
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"collector": {"class": sys.argv[2], "host": "127.0.0.1", "port": int(sys.argv[1])}},
        "root": {"level": "INFO", "handlers": ["collector"]},
        "loggers": {"django.request": {"handlers": ["collector"], "propagate": False}},
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402 - settings come first

application = get_wsgi_application()
for path in ("/ok", "/missing", "/boom"):
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_NAME": "site",
        "SERVER_PORT": "80",
        "wsgi.input": io.BufferedReader(io.BytesIO(b"")),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
    }
    application(environ, lambda status, headers, *_: print(status))
