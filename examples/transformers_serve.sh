# Sourced by the examples that need a language model on this machine: serves MODEL with `transformers serve` until the
# script ends. `serve MODEL LOG` sets url; PORT and DTYPE are of the server. It needs: pip install 'llink[judge]'
serve() {
  local model=$1 log=$2
  url="http://localhost:${PORT:-8123}"
  transformers serve "$model" --port "${PORT:-8123}" --dtype "${DTYPE:-auto}" > "$log" 2>&1 &
  server=$!
  trap 'kill $server; wait $server || true' EXIT
  until python -c "import urllib.request as u; u.urlopen('$url/health')" 2> /dev/null; do
    kill -0 $server 2> /dev/null || { cat "$log" >&2; exit 1; }
    sleep 1
  done
}
