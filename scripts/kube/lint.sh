#!/usr/bin/env bash
# The chart, without a cluster: lint, rendering, schemas, refusals, with Helm 3 and Helm 4. Fifteen seconds once its tools are
# built (scripts/kube/tools.sh charts), which takes some minutes the first time.
set -euo pipefail
HERE=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$HERE/env.sh"
"$HERE/tools.sh" charts
exec "$K8S_BIN/venv/bin/python" "$HERE/check_chart.py" "$HERE/../../helm/bolide" "$K8S_BIN/schemas.json" "$K8S_BIN/helm" "$K8S_BIN/helm3"
