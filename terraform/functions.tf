# Every deployed function, one row each. A key is the cloud name: of the service, of its queue or
# cron job, and with fg- before it of its service account. In Python its dashes are underscores.
#
#   kind      public: on the front, open to everybody; the code asks for passports, tokens, signatures
#             schedule, task: called by Cloud Scheduler, by Cloud Tasks, and by nobody else
#   paths     what of the front's addresses is its own: * is one segment, ** the rest
#   every     when it is called (UTC)
#   settings  groups of settings.tf, beside those that its kind has
#   queues    which task functions it enqueues for
#   roles     what it may do with customers' resources: roles of customers.tf
#
# What a row does not say stands in local.defaults. An exception carries its reason.
locals {
  table = {
    # ---- public ----
    register = {
      kind     = "public"
      paths    = ["/v1/register", "/v1/register/**"]
      settings = ["users"]
      queues   = ["provision-identity", "provision-storage"] # what comes with a registration
    }
    organizations = {
      kind     = "public"
      paths    = ["/v1/organizations", "/v1/organizations/**"]
      settings = ["users"]
    }
    invitations = {
      kind     = "public"
      paths    = ["/v1/invitations/**", "/v1/organizations/*/invitations", "/v1/organizations/*/invitations/*/revoke"]
      settings = ["users"]
    }
    passports = {
      kind     = "public"
      paths    = ["/v1/passports", "/v1/passports/**"]
      settings = ["users"]
    }
    token = {
      kind     = "public"
      paths    = ["/v1/token"]
      settings = ["users", "reader_tokens"]
    }
    credits = {
      kind          = "public"
      paths         = ["/v1/credits", "/v1/credits/**"]
      settings      = ["users", "stripe", "checkout"]
      min_instances = 1 # each page of an app shows the balance
      max_instances = 6
    }
    stripe-webhook = {
      kind          = "public"
      paths         = ["/v1/stripe/webhook"]
      settings      = ["stripe_mode", "stripe_webhook"] # Stripe has no Google identity; it signs the body
      max_instances = 4
    }
    objects = {
      kind          = "public"
      paths         = ["/v1/storage/*/uploads", "/v1/storage/*/downloads", "/v1/storage/*/objects"]
      settings      = ["users", "customers", "signer", "s3"]
      roles         = ["object_lister"]
      max_instances = 4
    }
    holds = {
      kind          = "public"
      paths         = ["/v1/holds", "/v1/holds/**"]
      settings      = ["users"]
      min_instances = 1 # a machine waits for it before it starts work
      max_instances = 10
    }
    grants = {
      kind     = "public"
      paths    = ["/v1/grants"]
      settings = ["users"]
    }
    workspaces = {
      kind     = "public"
      paths    = ["/v1/workspaces", "/v1/workspaces/**"]
      settings = ["users"]
    }
    sessions = {
      kind          = "public"
      paths         = ["/v1/sessions", "/v1/sessions/**"]
      settings      = ["users"]
      min_instances = 1 # somebody waits for the session
      max_instances = 10
    }
    usage = {
      kind          = "public"
      paths         = ["/v1/usage/**"]
      settings      = ["users"]
      min_instances = 1 # a gateway's batches wait for it
      max_instances = 3 # each takes a thousand events a call
    }
    authorizations = {
      kind          = "public"
      paths         = ["/v1/usage/estimate", "/v1/usage/authorize", "/v1/usage/authorizations/**"]
      settings      = ["users"]
      max_instances = 3 # a gateway asks before each call
    }
    backfills = {
      kind          = "public"
      paths         = ["/v1/usage/backfills", "/v1/usage/backfills/**"]
      settings      = ["users"]
      max_instances = 1 # for operators alone
    }
    rates = {
      kind          = "public"
      paths         = ["/v1/usage/rates", "/v1/usage/short-money"]
      settings      = ["users"]
      max_instances = 1 # for operators
    }
    entitlements = {
      kind          = "public"
      paths         = ["/v1/features", "/v1/features/**", "/v1/entitlements", "/v1/entitlements/**", "/v1/spend-caps", "/v1/spend-caps/**"]
      settings      = ["users"]
      max_instances = 3 # a gateway asks before each call
    }
    policies = {
      kind          = "public"
      paths         = ["/v1/policies", "/v1/policies/**"]
      settings      = ["users"]
      max_instances = 1 # for operators alone
    }
    usage-reports = {
      kind            = "public"
      paths           = ["/v1/usage/analytics", "/v1/usage/forecast", "/v1/usage/history", "/v1/usage/exports/*"]
      settings        = ["users"]
      timeout_seconds = 300 # an export is sent as it is read
      max_instances   = 2
    }
    storage = {
      kind     = "public"
      paths    = ["/v1/storage", "/v1/storage/**"]
      settings = ["users"]
      queues   = ["provision-storage"]
    }
    spaces = {
      kind     = "public"
      paths    = ["/v1/spaces", "/v1/spaces/**"]
      settings = ["users"]
      queues   = ["provision-storage"]
    }
    statements = {
      kind            = "public"
      paths           = ["/v1/statements", "/v1/statements/**"]
      settings        = ["users", "seller"]
      timeout_seconds = 300 # an export is sent as it is read
    }
    auto-top-up = {
      kind     = "public"
      paths    = ["/v1/credits/auto-top-up"]
      settings = ["users"]
    }
    notifications = {
      kind     = "public"
      paths    = ["/v1/notifications"]
      settings = ["users"]
    }
    identity = {
      kind     = "public"
      paths    = ["/v1/identity"]
      settings = ["users"]
    }
    reconciliation = {
      kind            = "public"
      paths           = ["/v1/reconciliation", "/v1/reconciliation/**"]
      settings        = ["users", "stripe", "stripe_mode"]
      timeout_seconds = 900 # an operator's window of up to 90 days, page by page
      max_instances   = 1   # for an operator
    }

    # ---- called by Cloud Scheduler ----
    sweep-sessions = {
      kind   = "schedule"
      every  = "* * * * *"
      queues = ["stop-session"]
    }
    expire-grants = {
      kind  = "schedule"
      every = "* * * * *"
    }
    expire-holds = {
      kind  = "schedule"
      every = "* * * * *"
    }
    fold-usage = {
      kind  = "schedule"
      every = "* * * * *"
    }
    start-auto-top-ups = {
      kind   = "schedule"
      every  = "* * * * *"
      queues = ["charge-top-up"]
    }
    enqueue-outbox = {
      kind   = "schedule"
      every  = "* * * * *"
      queues = ["stop-session", "charge-top-up", "send-invitation", "clone-space", "provision-identity", "provision-storage"]
    }
    report-health = {
      kind  = "schedule"
      every = "* * * * *" # alerts are no faster than it
    }
    accrue-storage = {
      kind        = "schedule"
      every       = "0 * * * *"
      retry_count = 3 # the next call is an hour away
    }
    measure-storage = {
      kind        = "schedule"
      every       = "10 * * * *" # what was used is charged before it is measured anew
      settings    = ["customers", "s3"]
      roles       = ["bucket_reader"]
      retry_count = 3
    }
    keep-usage = {
      kind            = "schedule"
      every           = "30 1 * * *"
      settings        = ["archive"]
      timeout_seconds = 1700 # a large month is many files; Cloud Scheduler waits no longer than 1800
      retry_count     = 5    # the next call is a day away
      memory_mb       = 1024 # of a file's 200 000 events
    }
    reconcile = {
      kind            = "schedule"
      every           = "0 0 * * *"
      settings        = ["stripe", "stripe_mode"]
      timeout_seconds = 1700 # on Sundays all of the ledger; Cloud Scheduler waits no longer than 1800
      retry_count     = 5    # the next call is a day away
    }

    # ---- called by Cloud Tasks ----
    stop-session = {
      kind                  = "task"
      max_instances         = 4
      dispatches_per_second = 100 # sessions that began together end together
    }
    charge-top-up = {
      kind     = "task"
      settings = ["stripe"]
    }
    send-invitation = {
      kind     = "task"
      settings = ["mails"]
    }
    clone-space = {
      kind        = "task"
      settings    = ["customers", "s3"]
      queues      = ["clone-space", "provision-storage"] # it hands on to the next, or has the bucket deleted
      roles       = ["object_copier"]
      concurrency = 2    # each has eight objects in memory at a time
      memory_mb   = 1024 # of up to 16 MiB
    }
    provision-identity = {
      kind     = "task"
      settings = ["customers", "identities"]
      roles    = ["account_keeper"]
    }
    provision-storage = {
      kind     = "task"
      settings = ["customers", "file_shares", "s3"]
      queues   = ["clone-space"] # a clone waits for its bucket
      roles    = ["bucket_maker", "bucket_keeper", "share_keeper"]
    }
  }

  defaults = {
    all = {
      paths                 = []
      every                 = null
      settings              = []
      queues                = []
      roles                 = []
      cpu                   = "1"
      memory_mb             = 512
      min_instances         = 0
      retry_count           = 0
      dispatches_per_second = 10
    }
    public = {
      concurrency     = 40
      timeout_seconds = 60
      max_instances   = 3
    }
    # They work for 45 seconds, then finish what they began. Two at once are safe, but of no use.
    schedule = {
      concurrency     = 2
      timeout_seconds = 90
      max_instances   = 1
    }
    # A run has its outbox row for two minutes, then another may begin: it must be over by then.
    task = {
      concurrency     = 8
      timeout_seconds = 110
      max_instances   = 2
    }
  }

  functions = {
    for name, row in local.table :
    name => merge(local.defaults.all, local.defaults[row.kind], row)
  }
  public    = { for name, row in local.functions : name => row if row.kind == "public" }
  schedules = { for name, row in local.functions : name => row if row.kind == "schedule" }
  tasks     = { for name, row in local.functions : name => row if row.kind == "task" }

  # Cloud Run gives each service this address beside a random one. It is known before the service
  # is there, so a function can be told its own, and a queue that of the function it calls.
  urls = {
    for name in keys(local.table) :
    name => "https://${name}-${data.google_project.this.number}.${var.region}.run.app"
  }

  connections_max = sum([for row in values(local.functions) : row.max_instances]) * var.database_pool_size
}

module "function" {
  source   = "./modules/function"
  for_each = local.functions

  name            = each.key
  region          = var.region
  image           = var.image
  environment     = local.environments[each.key]
  secrets         = local.secrets[each.key]
  cpu             = each.value.cpu
  memory_mb       = each.value.memory_mb
  concurrency     = each.value.concurrency
  timeout_seconds = each.value.timeout_seconds
  min_instances   = var.keep_warm ? each.value.min_instances : 0
  max_instances   = each.value.max_instances

  # Public ones are reached through the front only, the others from within Google only.
  ingress = each.value.kind == "public" ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_INTERNAL_ONLY"
  invoker = local.invokers[each.value.kind]

  # Nobody waits for these to start, and nobody outside can ask how they are: a revision that does
  # not reach its database never replaces one that does.
  is_probed = each.value.kind != "public"
}
