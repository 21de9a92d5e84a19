# A worker for NVIDIA cards: one supervised process per card it is given.
#
#   docker build --file deploy/docker/worker-cuda.Dockerfile --tag rendermill-worker-cuda .
#   docker run --gpus all ... rendermill-worker-cuda
#
# torch's wheels carry the CUDA libraries, and the NVIDIA container toolkit mounts the driver's, so
# the base is the same slim Python image: a CUDA base image would hold all of it a second time.
#
# Base images are pinned by tag. To pin the bytes as well, add the digest that
# `docker buildx imagetools inspect IMAGE` prints: python:3.11.15-slim-bookworm@sha256:...

FROM python:3.11.15-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# torch's usual build is a CUDA build. For an older driver choose an index of builds for an older
# CUDA version: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
ARG TORCH_INDEX=
RUN python -m venv /opt/rendermill
COPY constraints.txt ./
# torch first and alone: it is most of the image, may come from an index of its own, which must not
# answer for any other package, and this layer is built again only when the constraints change.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/rendermill/bin/pip install --constraint constraints.txt \
        ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch
COPY LICENSE README.md pyproject.toml ./
COPY scheduler scheduler
COPY storage storage
COPY workers workers
# pip finds torch there already; the constraint keeps it from being replaced.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir dist . \
    && wheel="$(echo dist/*.whl)" \
    && /opt/rendermill/bin/pip install --constraint constraints.txt "${wheel}[farm,worker]"

FROM python:3.11.15-slim-bookworm
# tini is process 1: it forwards signals and reaps what loses its parent. Debian drops a package's
# older versions at every point release, so a pinned version would only break the build.
# libgomp1 is the OpenMP runtime for packages that bring none of their own.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 rendermill \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/rendermill \
        --shell /usr/sbin/nologin rendermill \
    && install --directory --owner=rendermill --group=rendermill --mode=0750 \
        /var/lib/rendermill /var/cache/rendermill
COPY --from=build /opt/rendermill /opt/rendermill
# The last two tell the NVIDIA container toolkit what to mount: every card the container was given,
# and of the driver only what computing and nvidia-smi need.
ENV PATH=/opt/rendermill/bin:$PATH \
    HOME=/var/lib/rendermill \
    RENDERMILL_HOME=/var/lib/rendermill \
    HF_HOME=/var/cache/rendermill/huggingface \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Models are gigabytes and outlive the container.
VOLUME /var/cache/rendermill
USER 10001:10001
WORKDIR /var/lib/rendermill
STOPSIGNAL SIGTERM
# A worker may load a model for minutes before its first picture, but its heart beats from the
# start: the health check watches the heartbeat.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["rendermill", "health", "worker"]
ENTRYPOINT ["/usr/bin/tini", "--", "rendermill"]
CMD ["worker"]
