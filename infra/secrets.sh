#!/usr/bin/env bash
# The secrets of a deployment, in Secret Manager. Terraform makes each as an empty container and
# decides who may read it; values only ever come from here, and no value is printed or becomes an
# argument of a process.
#
#   infra/secrets.sh missing [ID[:VERSION]…]   name those that have no value; exit 1 when there is one
#   infra/secrets.sh has ID[:VERSION]          exit 0 when it has a value, 1 when it has none
#   infra/secrets.sh put ID                    add a value, read from standard input, as the newest
#
# Reads PROJECT_ID from the environment. Asks gcloud, as whoever is signed in there.
set +x # whoever traces this script must not see a value
set -euo pipefail

main() {
  : "${PROJECT_ID:?name the Google Cloud project in PROJECT_ID}"
  case "${1:-} $#" in
    'missing '*) missing "${@:2}" ;;
    'has 2') has "$2" ;;
    'put 2') put "$2" ;;
    *) usage ;;
  esac
}

# Of those named, or of all.
missing() {
  local id found=0 ids=$*
  [[ -n $ids ]] || ids=$(list)
  for id in $ids; do
    if ! has "$id"; then
      echo "$id"
      found=1
    fi
  done
  return "$found"
}

# Those that Terraform made for the functions; a project may have others.
list() {
  gcloud secrets list --project="$PROJECT_ID" --filter=labels.app=faregate \
    --format='value(name.basename())'
}

# Any, or that version, enabled.
has() {
  local versions
  versions=$(gcloud secrets versions list "${1%%:*}" --project="$PROJECT_ID" \
    --filter=state=ENABLED --format='value(name.basename())') ||
    fail "Secret Manager does not tell about ${1%%:*}"
  if [[ $1 == *:* ]]; then
    grep -qx "${1#*:}" <<<"$versions"
  else
    [[ -n $versions ]]
  fi
}

put() {
  local value
  if [[ -t 0 ]]; then
    read -rsp "Value of $1 (not shown): " value
    echo >&2
  else
    value=$(cat) # without the newline that an editor or echo leaves at the end
  fi
  [[ -n $value ]] || fail "nothing came on standard input: $1 keeps its value"
  # printf is a part of bash, so the value is in no list of processes.
  printf '%s' "$value" | gcloud secrets versions add "$1" --project="$PROJECT_ID" --data-file=-
}

usage() {
  sed -n '2,/^set/ { /^#/ s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}" >&2
  exit 2
}

fail() {
  echo "faregate: $1" >&2
  exit 2
}

main "$@"
