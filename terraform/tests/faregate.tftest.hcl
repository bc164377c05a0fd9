# The whole deployment, made up: `mock_provider` answers for Google. One apply, then plans that
# change nothing, because each apply takes its time.

mock_provider "google" {
  mock_data "google_project" {
    defaults = {
      number = "123456789012"
    }
  }
}

override_data {
  target = data.google_project.customers
  values = {
    number = "210987654321"
  }
}

# ---- who may call what, and what each function may see ----------------------------------------

run "nobody_may_more_than_they_need" {
  assert {
    condition = toset([for name, function in module.function : name if function.invoker == "allUsers"]) == toset([
      "authorizations", "auto-top-up", "backfills", "credits", "entitlements", "grants", "holds", "identity",
      "invitations", "notifications", "objects", "organizations", "passports", "policies", "rates", "reconciliation",
      "register", "sessions", "spaces", "statements", "storage", "stripe-webhook", "token", "usage", "usage-reports",
      "workspaces",
    ])
    error_message = "Everybody may call just the listed functions."
  }

  assert {
    condition     = alltrue([for name in keys(local.schedules) : module.function[name].invoker == google_service_account.scheduler.member])
    error_message = "Only the scheduler's account calls schedules."
  }

  assert {
    condition     = alltrue([for name in keys(local.tasks) : module.function[name].invoker == google_service_account.tasks.member])
    error_message = "Only the queues' account calls tasks."
  }

  assert {
    condition = alltrue([
      for name, environment in local.environments :
      (lookup(environment, "INVOKER_GUARD", "code") == "iam") == (module.function[name].invoker != "allUsers")
    ])
    error_message = "INVOKER_GUARD=iam is for functions that IAM guards, and for all of them."
  }

  assert {
    condition = alltrue([
      for name in keys(local.public) : module.function[name].service.ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    ])
    error_message = "A public function is reached through the front only."
  }

  assert {
    condition = alltrue([
      for name in concat(keys(local.schedules), keys(local.tasks)) : module.function[name].service.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    ])
    error_message = "Schedules and tasks are reached from within only."
  }

  assert {
    condition     = toset(keys(google_compute_backend_service.function)) == toset(keys(local.public))
    error_message = "The front has the public functions, and no other."
  }

  assert {
    condition     = alltrue([for backend in google_compute_backend_service.function : backend.security_policy == google_compute_security_policy.front.id])
    error_message = "Cloud Armor is before each function."
  }

  assert {
    condition     = alltrue([for name, function in module.function : function.account.account_id == "fg-${name}"])
    error_message = "A function's account is fg- and its name."
  }

  assert {
    condition = alltrue([
      for function in module.function : function.service.template[0].service_account == function.account.email
    ])
    error_message = "A function runs as its own account."
  }

  assert {
    condition     = length(distinct([for function in module.function : function.service.template[0].service_account])) == length(local.table)
    error_message = "No two functions share an account."
  }

  assert {
    condition = alltrue([
      for name, function in module.function :
      function.readable_secrets == { for setting, secret in local.secrets[name] : setting => secret.id }
    ])
    error_message = "A function may read the secrets of its own settings, and no other."
  }

  assert {
    condition = {
      for id in ["token-signing-key", "stripe-webhook-secret", "supabase-secret-key", "stripe-secret-key", "s3-endpoints"] :
      id => sort([for name, function in module.function : name if contains(values(function.readable_secrets), id)])
      } == {
      token-signing-key     = tolist(["token"])
      stripe-webhook-secret = tolist(["stripe-webhook"])
      supabase-secret-key   = tolist(["send-invitation"])
      stripe-secret-key     = tolist(["charge-top-up", "credits", "reconcile", "reconciliation"])
      s3-endpoints          = tolist(["clone-space", "measure-storage", "objects", "provision-storage"])
    }
    error_message = "Each secret is seen by the functions that need it."
  }

  assert {
    condition = alltrue(flatten([
      for function in module.function : [
        for env in function.service.template[0].containers[0].env :
        contains(keys(function.readable_secrets), env.name) == (length(env.value_source) == 1)
      ]
    ]))
    error_message = "What is a secret comes from Secret Manager, never as a plain value."
  }

  assert {
    condition = alltrue([
      for binding in concat(
        values(google_project_iam_member.customers),
        values(google_service_account_iam_member.enqueuer),
        values(google_cloud_tasks_queue_iam_member.enqueuer),
        [google_service_account_iam_member.signer, module.foundation.builder_role],
      ) : !can(regex("^roles/(owner|editor|viewer)$|[aA]dmin$", binding.role))
    ])
    error_message = "No owner, editor, viewer or administrator of anything."
  }

  assert {
    condition = alltrue([
      for name in ["bucket_keeper", "bucket_reader", "object_lister", "object_signer", "object_copier"] :
      local.customer_roles[name].condition == "resource.name.startsWith(\"projects/_/buckets/fg-\")"
    ])
    error_message = "What touches buckets touches customers' buckets only."
  }

  assert {
    condition = alltrue([
      for grant, binding in google_project_iam_member.customers :
      try(binding.condition[0].expression, null) == local.customer_roles[local.customer_grants[grant].role].condition
    ])
    error_message = "A role's condition is part of each binding of it."
  }

  assert {
    condition     = strcontains(local.customer_roles.account_keeper.condition, "hasOnly([\"roles/iam.workloadIdentityUser\"])")
    error_message = "An organization's account is lent to its workloads, and to nobody else."
  }

  assert {
    condition     = !startswith(module.foundation.source_bucket.name, "fg-") && !startswith(google_storage_bucket.usage_archive.name, "fg-")
    error_message = "No bucket of ours passes for a customer's."
  }

  assert {
    condition     = google_storage_bucket.usage_archive.uniform_bucket_level_access && google_storage_bucket.usage_archive.public_access_prevention == "enforced"
    error_message = "Nobody gets at archived usage by an access list or as the public."
  }

  assert {
    condition     = google_storage_bucket_iam_member.usage_archive.member == module.function["keep-usage"].account.member
    error_message = "One function writes archived usage."
  }

  assert {
    condition     = module.foundation.source_bucket.uniform_bucket_level_access && module.foundation.source_bucket.public_access_prevention == "enforced"
    error_message = "Nobody gets into a bucket by an access list or as the public."
  }
}

# ---- cron jobs and queues call their own function, and prove who they are ---------------------

run "schedules_and_tasks_are_called_with_tokens" {
  command = plan

  assert {
    condition     = toset(keys(google_cloud_scheduler_job.this)) == toset(keys(local.schedules))
    error_message = "Each schedule has a job."
  }

  assert {
    condition = alltrue([
      for name, job in google_cloud_scheduler_job.this :
      job.http_target[0].uri == "https://${name}-123456789012.europe-west1.run.app/schedules/${name}"
    ])
    error_message = "A job calls its own function."
  }

  assert {
    condition = alltrue([
      for name, job in google_cloud_scheduler_job.this :
      job.http_target[0].oidc_token[0].service_account_email == google_service_account.scheduler.email &&
      job.http_target[0].oidc_token[0].audience == local.environments[name].INVOKER_AUDIENCE &&
      google_service_account.scheduler.email == local.environments[name].INVOKER_SERVICE_ACCOUNT
    ])
    error_message = "A job shows the token that the function expects."
  }

  assert {
    condition = alltrue([
      for name, job in google_cloud_scheduler_job.this :
      tonumber(trimsuffix(job.attempt_deadline, "s")) > local.functions[name].timeout_seconds &&
      tonumber(trimsuffix(job.attempt_deadline, "s")) <= 1800
    ])
    error_message = "A job waits longer than the function works, and no longer than Cloud Scheduler can."
  }

  assert {
    condition     = toset(keys(google_cloud_tasks_queue.this)) == toset(keys(local.tasks))
    error_message = "Each task function has a queue."
  }

  assert {
    condition = alltrue([
      for name, queue in google_cloud_tasks_queue.this :
      queue.http_target[0].uri_override[0].host == "${name}-123456789012.europe-west1.run.app" &&
      queue.http_target[0].uri_override[0].scheme == "HTTPS" &&
      queue.http_target[0].uri_override[0].uri_override_enforce_mode == "ALWAYS" &&
      queue.http_target[0].uri_override[0].path_override[0].path == "/tasks/${name}"
    ])
    error_message = "A queue calls its own function, whatever a task says."
  }

  assert {
    condition = alltrue([
      for name, queue in google_cloud_tasks_queue.this :
      queue.http_target[0].oidc_token[0].service_account_email == google_service_account.tasks.email &&
      queue.http_target[0].oidc_token[0].audience == local.environments[name].INVOKER_AUDIENCE &&
      google_service_account.tasks.email == local.environments[name].INVOKER_SERVICE_ACCOUNT
    ])
    error_message = "A queue shows the token that the function expects."
  }

  assert {
    condition = alltrue([
      for queue in google_cloud_tasks_queue.this :
      queue.retry_config[0].max_attempts == 60 && queue.retry_config[0].min_backoff == "0.100s" &&
      queue.retry_config[0].max_backoff == "60s" && queue.retry_config[0].max_doublings == 16
    ])
    error_message = "A queue tries soon, and for about an hour."
  }

  assert {
    condition     = alltrue([for row in values(local.tasks) : row.timeout_seconds < 120])
    error_message = "A task is over before another run may have its row."
  }

  assert {
    condition = alltrue([
      for name, row in local.functions : (length(row.queues) > 0) == contains(keys(local.environments[name]), "TASKS_LOCATION")
    ])
    error_message = "The settings of queues are for those who enqueue."
  }

  assert {
    condition = toset(keys(google_cloud_tasks_queue_iam_member.enqueuer)) == toset(flatten([
      for name, row in local.functions : [for queue in row.queues : "${name} ${queue}"]
    ]))
    error_message = "A function enqueues where its row says, and nowhere else."
  }

  assert {
    condition     = toset(keys(google_service_account_iam_member.enqueuer)) == toset([for name, row in local.functions : name if length(row.queues) > 0])
    error_message = "Those who enqueue may have tasks call as the queues' account."
  }
}

# ---- what everybody reaches, and how it is watched --------------------------------------------

run "the_front_is_guarded_and_watched" {
  command = plan

  assert {
    condition     = google_compute_url_map.redirect.default_url_redirect[0].https_redirect
    error_message = "Plain HTTP leads to HTTPS."
  }

  assert {
    condition     = google_compute_ssl_policy.front.min_tls_version == "TLS_1_2"
    error_message = "No TLS below 1.2."
  }

  assert {
    condition = {
      for header in google_compute_url_map.front.header_action[0].response_headers_to_add : header.header_name => header.header_value
    } == local.response_headers
    error_message = "Each answer has the security headers."
  }

  assert {
    condition     = can(regex("max-age=[0-9]{8}", local.response_headers.Strict-Transport-Security))
    error_message = "Browsers remember for a year that it is HTTPS."
  }

  assert {
    condition = !strcontains(
      join(",", [for rule in google_compute_url_map.front.path_matcher[0].route_rules : endswith(rule.match_rules[0].path_template_match, "/**") ? "b" : "w"]),
      "b,w",
    )
    error_message = "The load balancer takes the first that matches."
  }

  assert {
    condition     = tolist([for rule in google_compute_url_map.front.path_matcher[0].route_rules : rule.priority]) == tolist(range(1, length(local.paths) + 1))
    error_message = "The order of rules is that of the list."
  }

  assert {
    condition = alltrue([
      for rule in google_compute_security_policy.front.rule : rule.action == "throttle" && rule.rate_limit_options[0].enforce_on_key == "IP"
    ])
    error_message = "Every rule limits the rate of one address."
  }

  assert {
    condition = toset(keys(google_monitoring_alert_policy.this)) == toset([
      "webhook_failures", "webhook_refusals", "sweep_lag", "outbox_age", "verify_differences", "server_errors", "latency_p99", "uptime",
    ])
    error_message = "What is watched is what was agreed."
  }

  assert {
    condition = alltrue([
      for name, policy in google_monitoring_alert_policy.this :
      strcontains(policy.documentation[0].content, "${var.runbooks_url}/${replace(name, "_", "-")}.md") && length(policy.notification_channels) == 1
    ])
    error_message = "An alert links to its page, and reaches somebody."
  }

  assert {
    condition = (
      [for condition in google_monitoring_alert_policy.this["webhook_failures"].conditions : condition.condition_threshold[0].threshold_value] == [0, 0] &&
      google_monitoring_alert_policy.this["webhook_refusals"].conditions[0].condition_threshold[0].threshold_value >= 100
    )
    error_message = "One genuine notification that fails is told; what anybody can send is not, until it is a flood."
  }

  assert {
    condition     = length(google_monitoring_alert_policy.this["sweep_lag"].conditions) == 2
    error_message = "Silence is told, too."
  }

  assert {
    condition = alltrue([
      for name in [for alert in concat(values(local.alerts), flatten(values(local.besides))) : regexall("user/(faregate/[a-z_]+)", alert.filter)[0][0] if strcontains(alert.filter, "user/")] :
      contains([
        for metric in concat(values(google_logging_metric.counted), values(google_logging_metric.health), [google_logging_metric.latency]) : metric.name
      ], name)
    ])
    error_message = "Each alert's metric exists."
  }
}

# ---- what costs money or a night when it is wrong ---------------------------------------------

run "nothing_is_paid_while_nobody_calls" {
  command = plan
  variables {
    keep_warm = false
  }

  assert {
    condition     = alltrue([for function in module.function : function.service.template[0].scaling[0].min_instance_count == 0])
    error_message = "Without keep_warm no instance waits."
  }

  assert {
    condition     = alltrue([for function in module.function : function.service.template[0].containers[0].resources[0].cpu_idle])
    error_message = "An instance is paid for while it works only."
  }

  assert {
    condition     = toset(google_billing_budget.month.budget_filter[0].projects) == toset(["projects/123456789012", "projects/210987654321"])
    error_message = "The budget counts what customers store, too."
  }

  assert {
    condition     = tolist([for rule in google_billing_budget.month.threshold_rules : rule.threshold_percent]) == tolist([0.5, 0.9, 1, 1])
    error_message = "The budget tells at half, nearly all, all, and when all is foreseen."
  }
}

run "what_is_off_by_default_can_be_on" {
  command = plan
  variables {
    auth_jwt_algorithm = "HS256"
    tracing            = true
    absent             = ["workspaces"]
  }

  assert {
    condition     = toset(split(" ", output.functions)) == setsubtract(keys(local.table), ["workspaces"])
    error_message = "It is remembered which functions the image has."
  }

  assert {
    condition = toset([for name, secrets in local.secrets : name if can(secrets.SUPABASE_JWT_SECRET)]) == toset([
      for name, row in local.functions : name if contains(row.settings, "users")
    ])
    error_message = "The legacy secret is for those who read users' tokens, with HS256 only."
  }

  assert {
    condition     = toset(keys(google_project_iam_member.tracer)) == toset(keys(local.table))
    error_message = "Who traces may write traces."
  }
}

run "wrong_values_are_refused" {
  command = plan
  variables {
    project                     = "fg-project" # its buckets would pass for customers' buckets
    image                       = "europe-west1-docker.pkg.dev/faregate-test/faregate/functions:latest"
    secret_versions             = { database-url = "latest" }
    database_pool_size          = 0
    alert_emails                = []
    budget_per_month            = 0
    billing_account             = "mine"
    requests_per_minute         = 1000000
    webhook_requests_per_minute = 1
    latency_p99_milliseconds    = 0
    traced_fraction             = 1.5
    cors_allowed_origins        = ["https://*.example.com"]
    credit_value_usd            = "0"
    domain                      = "https://api.example.com/"
    region                      = "Europe"
    supabase_url                = "http://test.supabase.co/"
    auth_jwt_algorithm          = "none"
    workload_identity_pool      = "mine"
    customers_project           = "Customers"
    top_up_url                  = "http://app.example.com"
    checkout_success_url        = "http://app.example.com"
    checkout_cancel_url         = "http://app.example.com"
    invitation_url              = "http://app.example.com"
    stripe_account_id           = "mine"
  }
  expect_failures = [
    var.project,
    var.image,
    var.secret_versions,
    var.database_pool_size,
    var.alert_emails,
    var.budget_per_month,
    var.billing_account,
    var.requests_per_minute,
    var.webhook_requests_per_minute,
    var.latency_p99_milliseconds,
    var.traced_fraction,
    var.cors_allowed_origins,
    var.credit_value_usd,
    var.domain,
    var.region,
    var.supabase_url,
    var.auth_jwt_algorithm,
    var.workload_identity_pool,
    var.customers_project,
    var.top_up_url,
    var.checkout_success_url,
    var.checkout_cancel_url,
    var.invitation_url,
    var.stripe_account_id,
  ]
}

run "a_region_may_have_two_digits" {
  command = plan
  variables {
    region = "europe-west12"
  }

  assert {
    condition     = google_cloud_tasks_queue.this["stop-session"].location == "europe-west12"
    error_message = "Any region will do."
  }
}

run "more_connections_than_the_pooler_takes_are_refused" {
  command = plan
  variables {
    pooler_clients_max = 300
  }
  expect_failures = [output.url]
}
