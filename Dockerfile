# Recorder, simulator and hk-tickctl in one image; docker-compose.yml shows how to run the first two.
#
# Packages of Python's are exactly those of requirements/, by hash. The base image is pinned by its tag alone, which moves
# with the fixes of Debian and Python: to stay with one base, put its digest behind the tag ("docker buildx imagetools
# inspect python:3.11-slim-bookworm" shows it).

FROM python:3.11-slim-bookworm AS build
# A package that exists as source only runs code of its own when it is built: not as root.
RUN useradd --create-home build && install -d -o build -g build /src /wheels
USER build
WORKDIR /src
COPY requirements requirements
RUN python -m venv /home/build/venv \
  && /home/build/venv/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
  && /home/build/venv/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --require-hashes --wheel-dir /wheels -r requirements/service.txt
COPY --chown=build:build pyproject.toml README.md LICENSE ./
COPY --chown=build:build hk_tick_collector hk_tick_collector
RUN /home/build/venv/bin/pip wheel --no-build-isolation --no-index --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# A fixed uid, so that the owner of a mounted directory can be set beforehand: chown 10001 DIRECTORY
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin recorder \
  && install -d -o recorder -g recorder -m 0750 /data /keys /signals /restarts /ship
COPY --from=build /wheels /wheels
RUN python -m pip install --no-cache-dir --no-index --no-deps /wheels/*.whl && rm -r /wheels
COPY deploy/container/healthcheck.py /usr/local/lib/hk-tick-collector/healthcheck.py

USER recorder
WORKDIR /home/recorder
# The health check reads the metrics; they are on the container's own loopback address unless METRICS_HOST opens them.
ENV DATA_ROOT=/data METRICS_PORT=9810 PYTHONUNBUFFERED=1
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=2 CMD ["python", "/usr/local/lib/hk-tick-collector/healthcheck.py"]
CMD ["hk-tick-collector"]
