# The scheduler and the command line: everything but rendering, and so without torch.
#
#   docker build --file deploy/docker/scheduler.Dockerfile --tag rendermill-scheduler .
#
# Base images are pinned by tag. To pin the bytes as well, add the digest that
# `docker buildx imagetools inspect IMAGE` prints: python:3.11.15-slim-bookworm@sha256:...

FROM python:3.11.15-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/rendermill
COPY constraints.txt LICENSE README.md pyproject.toml ./
COPY scheduler scheduler
COPY storage storage
COPY workers workers
# The wheel is what is tested and what the other images install, so it is what is installed here.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir dist . \
    && wheel="$(echo dist/*.whl)" \
    && /opt/rendermill/bin/pip install --constraint constraints.txt "${wheel}[farm,parquet]"

FROM python:3.11.15-slim-bookworm
# tini is process 1: it forwards signals and reaps what loses its parent. Debian drops a package's
# older versions at every point release, so a pinned version would only break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 rendermill \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/rendermill \
        --shell /usr/sbin/nologin rendermill \
    && install --directory --owner=rendermill --group=rendermill --mode=0750 \
        /var/lib/rendermill /var/cache/rendermill
COPY --from=build /opt/rendermill /opt/rendermill
ENV PATH=/opt/rendermill/bin:$PATH \
    HOME=/var/lib/rendermill \
    RENDERMILL_HOME=/var/lib/rendermill \
    HF_HOME=/var/cache/rendermill/huggingface \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/rendermill
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["rendermill", "health", "scheduler"]
ENTRYPOINT ["/usr/bin/tini", "--", "rendermill"]
CMD ["scheduler"]
