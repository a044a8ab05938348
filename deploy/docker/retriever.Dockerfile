# The retriever: gRPC on 50051, REST, health and metrics on 8001, over the knowledge base that is mounted at /kb.
# Built from the root of the repository: docker build -f deploy/docker/retriever.Dockerfile .
# With --build-arg STORE=gcsfs it also reads bases in Google Cloud Storage.

FROM python:3.13-slim-bookworm AS build
ARG STORE
RUN python -m venv /build && python -m venv --without-pip /opt/reimagen
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# What changes seldom comes first. Pyserini is built from its source, which takes the build tools.
COPY requirements-build.lock ./
RUN /build/bin/pip install --require-hashes --no-deps -r requirements-build.lock
COPY services/retriever/requirements*.lock ./
RUN /build/bin/pip wheel --require-hashes --no-deps --no-build-isolation -w /wheels \
    -r requirements.lock ${STORE:+-r requirements-$STORE.lock}
COPY proto proto
COPY services/common services/common
COPY services/retriever services/retriever
RUN /build/bin/pip wheel --no-deps --no-build-isolation -w /wheels ./proto ./services/common ./services/retriever \
    && /build/bin/pip --python /opt/reimagen/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /nonexistent reimagen
COPY --from=build /opt/reimagen /opt/reimagen
ENV PATH=/opt/reimagen/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    REIMAGEN_RETRIEVER_KNOWLEDGE_BASE=/kb \
    REIMAGEN_RETRIEVER_GRPC=0.0.0.0:50051 \
    REIMAGEN_RETRIEVER_HTTP=0.0.0.0:8001
USER reimagen
EXPOSE 50051 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import os, ssl, urllib.request; tls = 'REIMAGEN_RETRIEVER_TLS_CERTIFICATE' in os.environ; \
urllib.request.urlopen(('https' if tls else 'http') + '://127.0.0.1:8001/readyz', timeout=4, \
                       context=ssl._create_unverified_context() if tls else None)"]
ENTRYPOINT ["reimagen-retriever"]
CMD ["serve"]
