#!/bin/sh
# Installs PostgreSQL's server from Debian's packages where there is none and nobody named another by LEDGER_TEST_POSTGRES_URL.
set -eu
[ -n "${LEDGER_TEST_POSTGRES_URL:-}" ] && exit 0
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && exit 0
command -v initdb >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing PostgreSQL for the tests"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postgresql >/dev/null
else
    echo "no PostgreSQL here: install it, start Docker, or set LEDGER_TEST_POSTGRES_URL" >&2
fi
