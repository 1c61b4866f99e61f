# Two stages: the first one makes the wheels, the second one has only what runs.
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[fluent,metrics]' \
 && pip install --no-cache-dir --no-index --find-links /wheels --prefix /install 'gevent-collector[fluent,metrics]'

FROM python:3.13-slim
# A number, so that Kubernetes can see that it is not root, and a bind mount can be given to it: chown 10001.
RUN mkdir -m 0750 /var/log/collector && chown 10001:10001 /var/log/collector
USER 10001:10001
ENV COLLECTOR_CONFIG=/etc/collector/collector.toml PYTHONDONTWRITEBYTECODE=1
VOLUME /var/log/collector
EXPOSE 9020 9021
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["collector", "health"]
# PID 1 takes SIGTERM itself: `docker stop` drains.
ENTRYPOINT ["collector"]
CMD ["run"]
COPY --from=build /install /usr/local
COPY etc/container.toml /etc/collector/collector.toml
