# syntax=docker/dockerfile:1
# One image for every role; the command says which: `docker run sidetone edge eu-west-1`.

ARG PYTHON=3.11.13-slim-bookworm

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM python:${PYTHON} AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/sidetone
# For the edge's compiled half, which is built at the end; without it an edge goes the portable way, at half the speed.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# What we depend on changes seldom and has a layer of its own. Without the embedded store (half a gigabyte): containers
# have a ClickHouse server.
ARG LEAVE_OUT="--no-install-package chdb --no-install-package chdb-core"
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    uv sync --frozen --no-dev --no-install-project ${LEAVE_OUT}
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-editable ${LEAVE_OUT}
# Where it is installed, not in /src.
WORKDIR /
RUN /opt/sidetone/bin/python -m relay.edge.wire.build

FROM python:${PYTHON}
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/sidetone sidetone \
    && install --directory --owner=sidetone --group=sidetone --mode=0700 /var/lib/sidetone
COPY --from=build /opt/sidetone /opt/sidetone
ENV PATH=/opt/sidetone/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SIDETONE_DATA_DIR=/var/lib/sidetone
USER 10001:10001
WORKDIR /var/lib/sidetone
ENTRYPOINT ["sidetone"]
CMD ["--help"]
