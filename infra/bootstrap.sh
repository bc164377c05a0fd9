#!/usr/bin/env bash
# Prepares an empty Google Cloud project for infra/deploy.sh, once; again, it changes nothing:
#
#   PROJECT_ID=… REGION=europe-west1 GITHUB_REPOSITORY_ID=… GITHUB_ENVIRONMENT=production \
#     BILLING_ACCOUNT=… CUSTOMERS_PROJECT=… infra/bootstrap.sh
#
# APIs, a bucket for Terraform's state, and the service account that deploys. GitHub's workflow acts
# as it by workload identity federation: there is no key that could leak. Only a job of the one
# repository, on its main branch, in the one GitHub environment (whose reviewers have agreed) may.
# The repository is known by its number, which a new owner of an old name does not get:
# `gh api repos/OWNER/NAME --jq .id`. Run by an owner of the project; with BILLING_ACCOUNT, by its
# administrator, the deployer may also write the budget, without which the workflow cannot deploy.
# CUSTOMERS_PROJECT is that of `customers_project`, if there is one, by an owner of it.
set -euo pipefail

main() {
  [[ $# == 0 ]] || usage
  : "${PROJECT_ID:?}" "${REGION:?}" "${GITHUB_REPOSITORY_ID:?}" "${GITHUB_ENVIRONMENT:?}"
  # They become part of a condition: whose tokens count.
  [[ $GITHUB_REPOSITORY_ID =~ ^[1-9][0-9]*$ ]] || fail 'GITHUB_REPOSITORY_ID is a number'
  [[ $GITHUB_ENVIRONMENT =~ ^(staging|production)$ ]] || fail 'GITHUB_ENVIRONMENT is staging or production'
  deployer=faregate-deployer@$PROJECT_ID.iam.gserviceaccount.com
  number=$(gcloud projects describe "$PROJECT_ID" --format='value(projectNumber)')
  pool=projects/$number/locations/global/workloadIdentityPools/github

  enable_apis
  make_state_bucket
  make_deployer
  grant_roles
  prepare_customers_project
  trust_github
  tell
}

enable_apis() {
  step 'APIs'
  local apis=(
    artifactregistry billingbudgets cloudbilling cloudbuild cloudresourcemanager cloudscheduler cloudtasks cloudtrace
    compute file iam iamcredentials logging monitoring run secretmanager serviceusage storage sts telemetry
  )
  gcloud services enable "${apis[@]/%/.googleapis.com}" --project="$PROJECT_ID"
}

# It knows everything but secrets' values. Versions: whoever breaks the state gets it back.
make_state_bucket() {
  step "Terraform's state"
  local bucket=gs://$PROJECT_ID-terraform-state
  exists storage buckets describe "$bucket" ||
    gcloud storage buckets create "$bucket" --project="$PROJECT_ID" --location="$REGION" \
      --uniform-bucket-level-access --public-access-prevention
  gcloud storage buckets update "$bucket" --versioning --uniform-bucket-level-access \
    --public-access-prevention
}

make_deployer() {
  step 'The service account that deploys'
  exists iam service-accounts describe "$deployer" --project="$PROJECT_ID" ||
    gcloud iam service-accounts create faregate-deployer --project="$PROJECT_ID" \
      --display-name='Deploys Faregate, as its GitHub workflow only'
}

# What Terraform makes, and no more: neither owner nor editor, no value of a secret, and nothing that
# a customer stores. As it decides who may do what, it could lend itself the rest; that is in the
# audit log, and what a reviewer of the GitHub environment is there for.
grant_roles() {
  step 'What it may do'
  local roles=(
    artifactregistry.admin            # the repository of images
    cloudbuild.builds.editor          # starts the build
    cloudscheduler.admin              # cron jobs
    cloudtasks.queueAdmin             # queues
    compute.loadBalancerAdmin         # the front: addresses, certificate, URL map
    compute.securityAdmin             # Cloud Armor
    iam.roleAdmin                     # the functions' own narrow roles
    iam.serviceAccountAdmin           # an account for each function
    iam.serviceAccountUser            # makes services that run as these accounts
    logging.configWriter              # metrics of logs
    monitoring.editor                 # alerts, dashboard, uptime checks
    resourcemanager.projectIamAdmin   # who may do what: as strong as all others together
    run.admin                         # services
    serviceusage.serviceUsageConsumer # asks the budget's API on this project's quota
  )
  local role
  for role in "${roles[@]}"; do
    grant "roles/$role"
  done
  grant_secrets
  grant_buckets
  if [[ -n ${BILLING_ACCOUNT:-} ]]; then
    gcloud billing accounts add-iam-policy-binding "$BILLING_ACCOUNT" \
      --member="serviceAccount:$deployer" --role=roles/billing.costsManager >/dev/null
  else
    step 'Not the budget: that needs BILLING_ACCOUNT. Have its administrator run this again with it'
  fi
}

# The predefined role that makes secrets reads them, too.
grant_secrets() {
  make_role faregateSecretKeeper 'Makes secrets and adds versions, reads none' \
    secretmanager.secrets.{create,delete,get,getIamPolicy,list,setIamPolicy,update} \
    secretmanager.versions.{add,get,list}
  grant "projects/$PROJECT_ID/roles/faregateSecretKeeper"
}

# The predefined role that makes buckets reads what is in all of them, and customers' may be in this
# project. Who may make a bucket is asked of the project, so that role knows no name.
grant_buckets() {
  local ours="resource.name.startsWith('projects/_/buckets/$PROJECT_ID" objects
  objects="$ours-terraform-state') || $ours-faregate-source')"
  make_role faregateBucketMaker 'Makes and finds buckets' storage.buckets.{create,list}
  grant "projects/$PROJECT_ID/roles/faregateBucketMaker"
  make_role faregateBucketKeeper 'Keeps buckets, reads nothing in them' \
    storage.buckets.{delete,get,getIamPolicy,setIamPolicy,update}
  grant "projects/$PROJECT_ID/roles/faregateBucketKeeper" \
    "title=platform_only,expression=$ours-faregate-')"
  grant roles/storage.objectUser "title=state_and_source_only,expression=$objects"
}

# make_role ID TITLE PERMISSION…: a role of our own in the project, or what it allows from now on.
make_role() {
  local verb=create permissions
  permissions=$(IFS=, && echo "${*:3}")
  ! exists iam roles describe "$1" --project="$PROJECT_ID" || verb=update
  gcloud iam roles "$verb" "$1" --project="$PROJECT_ID" --quiet \
    --title="$2" --permissions="$permissions" >/dev/null
}

# Where customers' buckets, shares and accounts are: the deployer says who may what, and no more.
prepare_customers_project() {
  [[ -n ${CUSTOMERS_PROJECT:-} && $CUSTOMERS_PROJECT != "$PROJECT_ID" ]] || return 0
  step "The project of customers' resources: APIs, and who may what there"
  gcloud services enable {file,iam,storage}.googleapis.com --project="$CUSTOMERS_PROJECT"
  local role
  for role in iam.roleAdmin resourcemanager.projectIamAdmin; do
    gcloud projects add-iam-policy-binding "$CUSTOMERS_PROJECT" --member="serviceAccount:$deployer" \
      --role="roles/$role" --condition=None >/dev/null
  done
}

trust_github() {
  step 'Workload identity federation'
  local condition mapping verb=create
  # Without `environment` every workflow of the branch could deploy, past the reviewers.
  condition="assertion.repository_id == '$GITHUB_REPOSITORY_ID'"
  condition+=" && assertion.environment == '$GITHUB_ENVIRONMENT'"
  condition+=" && assertion.ref == 'refs/heads/main'"
  mapping=google.subject=assertion.sub,attribute.repository_id=assertion.repository_id
  exists iam workload-identity-pools describe github --project="$PROJECT_ID" --location=global ||
    gcloud iam workload-identity-pools create github --project="$PROJECT_ID" --location=global \
      --display-name=GitHub
  ! exists iam workload-identity-pools providers describe github --project="$PROJECT_ID" \
    --location=global --workload-identity-pool=github || verb=update-oidc
  [[ $verb == update-oidc ]] || verb=create-oidc
  gcloud iam workload-identity-pools providers "$verb" github --project="$PROJECT_ID" \
    --location=global --workload-identity-pool=github \
    --issuer-uri=https://token.actions.githubusercontent.com \
    --attribute-mapping="$mapping" \
    --attribute-condition="$condition"
  gcloud iam service-accounts add-iam-policy-binding "$deployer" --project="$PROJECT_ID" \
    --role=roles/iam.workloadIdentityUser \
    --member="principalSet://iam.googleapis.com/$pool/attribute.repository_id/$GITHUB_REPOSITORY_ID" >/dev/null
}

# grant ROLE [CONDITION]
grant() {
  gcloud projects add-iam-policy-binding "$PROJECT_ID" --member="serviceAccount:$deployer" \
    --role="$1" --condition="${2:-None}" >/dev/null
}

exists() { gcloud "$@" >/dev/null 2>&1; }

tell() {
  cat <<TEXT

Ready. Variables of the GitHub environment \`$GITHUB_ENVIRONMENT\`, none of them a secret:

  WORKLOAD_IDENTITY_PROVIDER  $pool/providers/github
  DEPLOYER                    $deployer
TEXT
}

usage() {
  sed -n '2,/^set/ { /^#/ s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}" >&2
  exit 2
}

step() { echo "— $1"; }
fail() {
  echo "faregate: $1" >&2
  exit 1
}

main "$@"
