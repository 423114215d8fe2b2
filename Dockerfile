# Two images from one file: `api` (also dispatcher and migrations; no torch) and `worker` (torch).
#   docker build --target api -t spice-select-api .
#   docker build --target worker -t spice-select-worker .
#   docker build --target worker --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cu130 -t spice-select-worker:cuda .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
# HOME and every cache point to places that stay writable when the root file system is read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/srv \
    HOME=/tmp \
    MALLOC_ARENA_MAX=2 \
    SPICE_DATA_DIR=/data
RUN groupadd --gid 10001 spice \
    && useradd --uid 10001 --gid spice --no-create-home --home-dir /tmp --shell /usr/sbin/nologin spice \
    && install --directory --owner spice --group spice --mode 0750 /data /models
WORKDIR /srv

FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build
# An empty package first: the layer with the dependencies is rebuilt only when they change, not with every line of code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m venv /opt/venv \
    && mkdir spice_select && touch spice_select/__init__.py

FROM build AS build-api
RUN pip install --constraint constraints.txt '.[server,preview,postgres,worker,tracing]'
COPY spice_select spice_select
RUN pip install --no-deps --force-reinstall .

FROM build AS build-worker
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --constraint constraints.txt --index-url "${TORCH_INDEX_URL}" torch==2.13.0 \
    && pip install --constraint constraints.txt '.[compute,gguf,peft,server,postgres,worker,hub,tracing]'
COPY spice_select spice_select
RUN pip install --no-deps --force-reinstall .

FROM base AS api
# A large upload passes through a nameless temporary file, which belongs on the data volume and not in memory.
ENV TMPDIR=/data
COPY --from=build-api /opt/venv /opt/venv
COPY alembic.ini ./
COPY migrations migrations
COPY app app
COPY workers workers
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["uvicorn", "app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--no-server-header"]

FROM base AS worker
# SIGTERM (docker stop, a spot notice) lets the current unit be given back instead of waiting for its end.
ENV HF_HOME=/models \
    REMAP_SIGTERM=SIGQUIT
COPY --from=build-worker /opt/venv /opt/venv
COPY app app
COPY workers workers
USER 10001:10001
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 \
    CMD ["python", "-m", "workers", "alive"]
CMD ["celery", "-A", "workers.celery_app:celery_app", "worker", "--pool", "prefork", "--concurrency", "1", "--loglevel", "info"]
