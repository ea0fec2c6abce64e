#!/bin/sh
# Installs what the tests' real servers need and this machine lacks: PostgreSQL and Prometheus from Debian's
# packages, Kafka from Maven Central.
# docker-compose.yml's own checker from Go's modules. Nothing is installed where Docker can run it, nor a server that an environment variable names.
set -eu
here=$(dirname "$0")
sh "$here/compose.sh" || echo "Compose was not built; the tests will say that they left it out" >&2
jars=${XDG_CACHE_HOME:-$HOME/.cache}/ledger-tests/kafka

has() { command -v "$1" >/dev/null 2>&1; }
has docker && docker info >/dev/null 2>&1 && exit 0
missing=""
if [ -z "${LEDGER_TEST_POSTGRES_URL:-}" ] && ! has initdb && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    missing="$missing postgresql"
fi
if [ -z "${LEDGER_TEST_KAFKA_BOOTSTRAP:-}" ]; then
    has java || missing="$missing openjdk-17-jre-headless"
    has mvn || cmp -s "$here/kafka/pom.xml" "$jars/pom.xml" || missing="$missing maven"
fi
has prometheus || missing="$missing prometheus"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && has apt-get; then
        echo "installing for the tests:$missing"
        apt-get update -qq >/dev/null
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
    else
        echo "the tests lack$missing: install them, start Docker, or name servers (LEDGER_TEST_POSTGRES_URL, LEDGER_TEST_KAFKA_BOOTSTRAP)" >&2
    fi
fi

if [ -z "${LEDGER_TEST_KAFKA_BOOTSTRAP:-}" ] && has mvn && ! cmp -s "$here/kafka/pom.xml" "$jars/pom.xml"; then
    echo "fetching Kafka for the tests"
    rm -rf "$jars" && mkdir -p "$jars"
    # pom.xml comes last: it says that all the jars it lists are there.
    mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars" && cp "$here/kafka/pom.xml" "$jars/"
fi
