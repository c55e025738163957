# Recorder, simulator and hk-tickctl in one image; docker-compose.yml shows how to run the first two.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY hk_tick_collector hk_tick_collector
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# A fixed uid, so that the owner of a mounted directory can be set beforehand: chown 10001 DIRECTORY
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin recorder \
  && install -d -o recorder -g recorder -m 0750 /data
COPY --from=build /wheels /wheels
RUN python -m pip install --no-cache-dir "$(ls /wheels/hk_tick_collector-*.whl)[metrics,tools]" && rm -r /wheels
COPY deploy/container/healthcheck.py /usr/local/lib/hk-tick-collector/healthcheck.py

USER recorder
WORKDIR /home/recorder
# The health check reads the metrics; they are on the container's own loopback address unless METRICS_HOST opens them.
ENV DATA_ROOT=/data METRICS_PORT=9810 PYTHONUNBUFFERED=1
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=2 CMD ["python", "/usr/local/lib/hk-tick-collector/healthcheck.py"]
CMD ["hk-tick-collector"]
