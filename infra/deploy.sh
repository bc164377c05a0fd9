#!/usr/bin/env bash
# Brings what is checked out into the cloud:
#
#   infra/deploy.sh ENVIRONMENT              staging, production: terraform/environments/*.tfvars
#   infra/deploy.sh ENVIRONMENT --dry-run    print every step and run none
#
# Needs gcloud and Terraform signed in to Google Cloud, and of the environment SUPABASE_PROJECT_REF,
# SUPABASE_ACCESS_TOKEN, SUPABASE_DB_PASSWORD and what supabase/config.toml reads. It may be run
# again whenever it broke off: each step looks at what is there.
#
# Plan, migrate, apply: nothing in a plan asks the database, and a plan can fail or be declined. So
# that comes first, and leaves the database as it was. Then the database, which the new image needs
# from its first request on; then the very plan that was looked at.
#
# Rolling back. When the new version does not start or does not answer, the image before is applied
# again, to the functions that it has: one that is new keeps the new image, which nobody called
# before. Migrations stay: they only go forward. So each migration must be one that the version
# before can live with: what it still reads or calls is added to, and removed no sooner than with
# the version after. Then the image before runs on the new schema, which it does on every deployment
# anyway, between the migration and the last instance's replacement. What this checkout says in
# terraform/ stays, too: the commit before undoes it. A function that does not start leaves what ran.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.local/venv/bin/python}
plan=.local/build/terraform.plan
made_later='database-url supabase-secret-key token-signing-key'
no_image=none@sha256:0000000000000000000000000000000000000000000000000000000000000000
exec 3>&1 # where a step is shown whose answer somebody takes

main() {
  read_arguments "$@"
  read_environment
  check_tools
  select_state
  prepare
  check_secrets
  build_image
  make_plan
  confirm
  migrate
  connect_supabase
  if ! release; then
    roll_back
    exit 1
  fi
  if [[ -n $dry_run ]]; then
    say '— Had one of the last two steps failed:'
    roll_back
  else
    say "$environment runs $image"
  fi
}

read_arguments() {
  environment=${1:-}
  variables=environments/$environment.tfvars
  case "$# ${2:-}" in
    '1 ') dry_run= ;;
    '2 --dry-run') dry_run=yes ;;
    *) usage ;;
  esac
  [[ -f terraform/$variables ]] || usage
}

# What Terraform is told, told once.
read_environment() {
  PROJECT_ID=$(variable project)
  region=$(variable region)
  api_url=https://$(variable domain)
  export PROJECT_ID PYTHONPATH=.:functions
  [[ -n $dry_run ]] || ask_for_settings
}

# Where one of its settings is missing the CLI makes env(NAME) the project's: an address that is none.
ask_for_settings() {
  local name missing=()
  for name in SUPABASE_{PROJECT_REF,ACCESS_TOKEN,DB_PASSWORD} \
    $(sed -n 's/.*"env(\([A-Z_]*\))".*/\1/p' supabase/config.toml); do
    [[ -n ${!name:-} ]] || missing+=("$name")
  done
  [[ ${#missing[@]} == 0 ]] || fail "not in the environment: ${missing[*]}"
}

check_tools() {
  local tool
  for tool in gcloud terraform supabase curl; do
    [[ -n $dry_run ]] || command -v "$tool" >/dev/null || fail "$tool is not on PATH"
  done
}

select_state() {
  step "Find Terraform's state"
  run terraform -chdir=terraform init -input=false -reconfigure \
    -backend-config="bucket=$PROJECT_ID-terraform-state" \
    -backend-config="prefix=faregate/$environment"
  outputs=$(answer '' terraform -chdir=terraform output -json)
  previous=$(recorded '<the image that runs now>' image)
  functions=$(recorded '<function>' functions)
}

# recorded PLACEHOLDER NAME: what the last deployment that succeeded noted; nothing before the first.
# A state that cannot be read has ended this script: it would pass for an empty one.
recorded() {
  [[ -n $dry_run || $outputs == *"\"$2\": {"* ]] || return 0
  answer "$1" terraform -chdir=terraform output -raw "$2"
}

# A secret that a function reads for the first time needs a container before its value can be put
# in, and the value before the function starts. Each by its own name: of one that is in the table no
# more nothing happens before somebody has seen the plan. On the first deployment an image needs a
# registry, too, and the front its address: a certificate is issued to a domain that resolves to it.
prepare() {
  local secret targets=()
  step "Make what secrets are kept in, where one is new"
  secrets=$(configured '<secret>:<version>' \
    'join(" ", [for id in local.secret_ids : join(":", [id, lookup(var.secret_versions, id, "1")])])')
  for secret in $secrets; do
    targets+=("-target=module.foundation.google_secret_manager_secret.this[\"${secret%:*}\"]")
  done
  [[ -n $previous && -z $dry_run ]] || prepare_first_deployment
  run terraform -chdir=terraform apply -input=false -auto-approve -var-file="$variables" \
    -var="image=${previous:-$no_image}" "${targets[@]}"
  [[ -n $previous ]] || tell_address
}

prepare_first_deployment() {
  say '  On the first deployment: what images are kept in, and the address'
  targets+=(-target=module.foundation -target=google_compute_global_address.front)
}

tell_address() {
  local address
  address=$(answer '<address>' terraform -chdir=terraform output -raw address)
  say "  Set the DNS record now: ${api_url#https://} A $address"
}

# configured PLACEHOLDER EXPRESSION: what this checkout's terraform/ says, whatever is deployed.
configured() {
  answer "$1" terraform -chdir=terraform console -var-file="$variables" \
    -var="image=${previous:-$no_image}" <<<"$2" | tr -d '"'
}

# The very versions that functions will read, before anything is built, planned or migrated: one
# that is not there fails the apply, and the way back, too. The first ones that
# infra.supabase_project makes come after the migration, which makes the functions' role.
check_secrets() {
  local secret asked=()
  step "Look for secrets without a value"
  for secret in $secrets; do
    [[ " $made_later " == *" ${secret%:1} "* ]] || asked+=("$secret")
  done
  run infra/secrets.sh missing "${asked[@]}" || fail "these secrets have no such version. Put each with
  \`PROJECT_ID=$PROJECT_ID infra/secrets.sh put ID\`, then deploy again; stripe-webhook-secret comes from
  \`STRIPE_SECRET_KEY=… PROJECT_ID=$PROJECT_ID PYTHONPATH=$PYTHONPATH $python -m infra.stripe_webhook $api_url\`"
}

# Once for all functions, and only if they are not the same as in an image that is there.
build_image() {
  local archive name repository bucket builder tagged digest
  step "Pack functions/ and build its image, unless there is one"
  archive=$(answer .local/build/functions-HASH.zip "$python" -m infra.build_source)
  name=$(basename "$archive" .zip)
  repository=$(answer '<repository>' terraform -chdir=terraform output -raw repository)
  bucket=$(answer '<bucket>' terraform -chdir=terraform output -raw source_bucket)
  builder=$(answer '<builder>' terraform -chdir=terraform output -raw builder)
  tagged=$repository/functions:${name#functions-}
  digest=$(digest_if_any "$tagged")
  if [[ -z $digest || -n $dry_run ]]; then
    run gcloud storage cp --no-clobber "$archive" "gs://$bucket/$name.zip"
    # Staged where the builder may read: by itself gcloud copies it to a bucket that is not ours.
    run gcloud builds submit "gs://$bucket/$name.zip" --config=infra/build.yaml \
      --gcs-source-staging-dir="gs://$bucket/builds" --substitutions="_IMAGE=$tagged" \
      --project="$PROJECT_ID" --region="$region" \
      --service-account="projects/$PROJECT_ID/serviceAccounts/$builder"
    digest=$(digest_of "$tagged")
  fi
  image=$repository/functions@$digest
}

# Nothing when there is no such image. Who may not ask, or cannot, does not hear that there is none.
digest_if_any() {
  local told=.local/build/describe.errors
  mkdir -p "${told%/*}"
  if ! digest_of "$1" 2>"$told"; then
    grep -qiE 'not[ _]found' "$told" || fail "the registry does not tell about $1: $(<"$told")"
  fi
}

digest_of() {
  answer 'sha256:<digest>' gcloud artifacts docker images describe "$1" \
    --project="$PROJECT_ID" --format='value(image_summary.digest)'
}

# Of the database, too: who confirms sees both.
make_plan() {
  step "Plan what changes in the cloud, and in the database"
  run terraform -chdir=terraform plan -input=false -var-file="$variables" -var="image=$image" \
    -out="$PWD/$plan"
  run supabase db push --dry-run --project-ref "${SUPABASE_PROJECT_REF:-<project>}"
}

# Whoever sits at a terminal reads the plan; a workflow's environment asks its reviewers before.
confirm() {
  [[ -t 0 && -z $dry_run ]] || return 0
  local reply
  read -rp "Apply this to $environment? [yes/no] " reply
  [[ $reply == yes ]] || fail 'nothing was migrated and nothing applied'
}

# The CLI takes the access token and the password from the environment: no process shows them.
migrate() {
  step "Migrate the database, forward only"
  run supabase db push --project-ref "${SUPABASE_PROJECT_REF:-<project>}" --yes
  step "Set up the Supabase project: exposed schemas, sign-ins, mails"
  run supabase config push --project-ref "${SUPABASE_PROJECT_REF:-<project>}" --yes
}

connect_supabase() {
  step "Give the functions their keys to the project, where they have none"
  run "$python" -m infra.supabase_project
}

release() {
  step "Apply the plan" &&
    run terraform -chdir=terraform apply -input=false "$PWD/$plan" &&
    smoke_test
}

# Every service has started, or the apply had failed. This asks whether they can be reached.
smoke_test() {
  step "Try it: the front, the database, who is refused" &&
    expect 200 GET /health &&
    expect 401 GET /v1/credits &&
    expect 400 POST /v1/stripe/webhook &&
    expect 404 POST /schedules/sweep-sessions
}

# A new revision takes a moment to get all the traffic; the first certificate takes up to an hour.
# Google's front refuses a POST that does not say how long it is.
expect() {
  local status attempt
  for attempt in {1..20}; do
    status=$(answer "$1" curl --silent --output /dev/null --max-time 10 --write-out '%{http_code}' \
      --header Content-Length:0 --request "$2" "$api_url$3") || status=none
    [[ $status != "$1" ]] || return 0
    [[ $attempt == 20 ]] || sleep "${SMOKE_TEST_PAUSE_SECONDS:-6}"
  done
  complain "$2 $3 answers $status instead of $1"
  return 1
}

roll_back() {
  if [[ -z $previous ]]; then
    fail "the first deployment has nothing to go back to. Until $api_url resolves to the front's address
  its certificate is not issued, which takes up to an hour: set the DNS record, wait, and deploy again"
  fi
  step "Roll back to $previous; migrations stay"
  choose_functions
  run terraform -chdir=terraform apply -input=false -auto-approve -var-file="$variables" \
    -var="image=$previous" -var="absent=[$absent]" "${targets[@]}" ||
    fail "rolling back failed as well: see infra/runbooks/server-errors.md"
  smoke_test || fail "the image before does not answer either: see infra/runbooks/server-errors.md"
  [[ -n $dry_run ]] || complain "$environment runs $previous again"
}

# Which of this checkout's functions the image before has: a new one could not start from it. These
# alone are named, so that whatever else broke stays out of the way.
choose_functions() {
  local name all
  all=$(configured '<function>' 'join(" ", keys(local.table))')
  targets=() absent=
  for name in $all; do
    if [[ " ${functions:-$all} " == *" $name "* ]]; then
      targets+=("-target=module.function[\"$name\"]")
    else
      absent+=${absent:+,}\"$name\"
    fi
  done
}

# run COMMAND…: runs it, or prints it.
run() {
  if [[ -n $dry_run ]]; then
    show "$@"
  else
    "$@"
  fi
}

# answer PLACEHOLDER COMMAND…: what it prints, or the placeholder.
answer() {
  if [[ -n $dry_run ]]; then
    show "${@:2}" >&3
    echo "$1"
  else
    "${@:2}"
  fi
}

show() {
  printf '   '
  printf ' %s' "$@"
  printf '\n'
}

variable() {
  sed -n "s/^ *$1 *= *\"\([^\"]*\)\".*/\1/p" "terraform/$variables" | grep . ||
    fail "terraform/$variables has no $1"
}

step() { say "— $1"; }
say() { echo "$1"; }
complain() { echo "faregate: $1" >&2; }
fail() {
  complain "$1"
  exit 1
}

usage() {
  sed -n '2,/^set/ { /^#/ s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}" >&2
  exit 2
}

main "$@"
