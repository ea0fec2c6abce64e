# One image for every process of the ledger: the API, the consumers, migrations. It runs as nobody in particular and writes nothing.
FROM python:3.13.5-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/ledger
COPY requirements.lock /src/
RUN /opt/ledger/bin/pip install --requirement /src/requirements.lock
COPY . /src
RUN /opt/ledger/bin/pip install --no-deps /src

FROM python:3.13.5-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ledger
COPY --from=build /opt/ledger /opt/ledger
COPY examples /opt/examples/examples
ENV PATH=/opt/ledger/bin:$PATH PYTHONPATH=/opt/examples PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001
EXPOSE 8080 9464
ENTRYPOINT ["ledger"]
CMD ["serve"]
