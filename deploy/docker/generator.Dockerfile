# The generator with the demonstration's cascade: REST on 8000, gRPC on 50052.
# Built from the root of the repository: docker build -f deploy/docker/generator.Dockerfile .
# It draws on processors; with --build-arg ACCELERATOR=tpu or cuda12, on accelerators. With --build-arg STORE=gcsfs it also
# fetches weights from Google Cloud Storage.

FROM python:3.13-slim-bookworm AS build
ARG ACCELERATOR
ARG STORE
RUN python -m venv /build && python -m venv --without-pip /opt/reimagen
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# What changes seldom comes first.
COPY requirements-build.lock ./
RUN /build/bin/pip install --require-hashes --no-deps -r requirements-build.lock
COPY services/generator/requirements*.lock ./
RUN /build/bin/pip wheel --require-hashes --no-deps --no-build-isolation -w /wheels \
    -r requirements.lock ${ACCELERATOR:+-r requirements-$ACCELERATOR.lock} \
    ${STORE:+-r requirements-$STORE.lock}
COPY proto proto
COPY services/common services/common
COPY services/generator services/generator
RUN /build/bin/pip wheel --no-deps --no-build-isolation -w /wheels ./proto ./services/common ./services/generator \
    && /build/bin/pip --python /opt/reimagen/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /nonexistent reimagen \
    && install -d -o reimagen /var/cache/reimagen /var/lib/reimagen/jobs /var/lib/reimagen/state
COPY --from=build /opt/reimagen /opt/reimagen
COPY services/generator/weights /usr/share/reimagen/weights
ENV PATH=/opt/reimagen/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    REIMAGEN_GENERATOR_WEIGHTS=/usr/share/reimagen/weights/demo \
    REIMAGEN_GENERATOR_WEIGHTS_CACHE=/var/cache/reimagen/weights \
    REIMAGEN_GENERATOR_COMPILE_CACHE=/var/cache/reimagen \
    REIMAGEN_GENERATOR_JOBS=/var/lib/reimagen/jobs \
    REIMAGEN_GENERATOR_STATE=/var/lib/reimagen/state \
    REIMAGEN_GENERATOR_HTTP=0.0.0.0:8000 \
    REIMAGEN_GENERATOR_GRPC=0.0.0.0:50052
USER reimagen
EXPOSE 8000 50052
# Ready means compiled, which takes a while the first time.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 CMD ["python", "-c", "\
import os, ssl, urllib.request; tls = 'REIMAGEN_GENERATOR_TLS_CERTIFICATE' in os.environ; \
urllib.request.urlopen(('https' if tls else 'http') + '://127.0.0.1:8000/readyz', timeout=4, \
                       context=ssl._create_unverified_context() if tls else None)"]
ENTRYPOINT ["reimagen-generator"]
CMD ["serve"]
