# The one HTTPS address: which function has which path, what is refused before it reaches any.

locals {
  # A whole address goes before a beginning (**): /v1/storage/*/objects before /v1/storage/**.
  paths = flatten([
    for is_beginning in [false, true] : [
      for name, row in local.public : [
        for path in row.paths : { path = path, function = name } if endswith(path, "/**") == is_beginning
      ]
    ]
  ])

  # What no function has is answered by this one, which says not_found in the API's own words. It
  # also tells the uptime check how it is.
  default_function = "organizations"

  response_headers = {
    Strict-Transport-Security = "max-age=63072000; includeSubDomains"
    X-Content-Type-Options    = "nosniff"
    X-Frame-Options           = "DENY"
    Referrer-Policy           = "no-referrer"
    # Nothing here is a page.
    Content-Security-Policy = "default-src 'none'; frame-ancestors 'none'"
  }
}

resource "google_compute_global_address" "front" {
  name = "faregate"
}

resource "google_compute_managed_ssl_certificate" "front" {
  # A certificate cannot be changed: another domain's is made before this one goes.
  name = "faregate-${substr(sha256(var.domain), 0, 8)}"

  managed {
    domains = [var.domain]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_ssl_policy" "front" {
  name            = "faregate"
  profile         = "RESTRICTED"
  min_tls_version = "TLS_1_2"
}

resource "google_compute_region_network_endpoint_group" "function" {
  for_each = local.public

  name                  = each.key
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  # By its name, not by reference: see the backend's lifecycle.
  cloud_run {
    service = each.key
  }
}

resource "google_compute_backend_service" "function" {
  for_each = local.public

  name                  = each.key
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.front.id

  backend {
    group = google_compute_region_network_endpoint_group.function[each.key].id
  }

  # Of a function that is taken out of the table, the URL map must let go before its backend can be
  # deleted. Without this Terraform deletes first, which Google refuses ("already being used"). It
  # makes the same of all that a backend refers to, which would be wrong for services: one that never
  # started is replaced by another of its name, and there cannot be two. So the group names its
  # service, and the URL map waits for them all. Backends need no suffix: nothing here replaces one.
  lifecycle {
    create_before_destroy = true
  }

  # The functions log each request; this one tells of those that were refused on the way.
  log_config {
    enable      = true
    sample_rate = 0.1
  }
}

resource "google_compute_url_map" "front" {
  name            = "faregate"
  default_service = google_compute_backend_service.function[local.default_function].id

  header_action {
    dynamic "response_headers_to_add" {
      for_each = local.response_headers
      content {
        header_name  = response_headers_to_add.key
        header_value = response_headers_to_add.value
        replace      = true
      }
    }
  }

  host_rule {
    hosts        = [var.domain]
    path_matcher = "functions"
  }

  path_matcher {
    name            = "functions"
    default_service = google_compute_backend_service.function[local.default_function].id

    dynamic "route_rules" {
      for_each = local.paths
      content {
        priority = route_rules.key + 1
        service  = google_compute_backend_service.function[route_rules.value.function].id
        match_rules {
          path_template_match = route_rules.value.path
        }
      }
    }
  }

  # Nothing leads to a function before it runs.
  depends_on = [module.function]
}

resource "google_compute_target_https_proxy" "front" {
  name             = "faregate"
  url_map          = google_compute_url_map.front.id
  ssl_certificates = [google_compute_managed_ssl_certificate.front.id]
  ssl_policy       = google_compute_ssl_policy.front.id
}

resource "google_compute_global_forwarding_rule" "https" {
  name                  = "faregate-https"
  target                = google_compute_target_https_proxy.front.id
  ip_address            = google_compute_global_address.front.id
  port_range            = "443"
  load_balancing_scheme = "EXTERNAL_MANAGED"
}

# Plain HTTP says where HTTPS is, and nothing else.
resource "google_compute_url_map" "redirect" {
  name = "faregate-redirect"

  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "MOVED_PERMANENTLY_DEFAULT"
    strip_query            = true # it may be a secret, and it came in the clear
  }
}

resource "google_compute_target_http_proxy" "redirect" {
  name    = "faregate-redirect"
  url_map = google_compute_url_map.redirect.id
}

resource "google_compute_global_forwarding_rule" "http" {
  name                  = "faregate-http"
  target                = google_compute_target_http_proxy.redirect.id
  ip_address            = google_compute_global_address.front.id
  port_range            = "80"
  load_balancing_scheme = "EXTERNAL_MANAGED"
}

resource "google_compute_security_policy" "front" {
  name = "faregate"

  rule {
    priority    = 1000
    action      = "throttle"
    description = "Stripe's few addresses bring everybody's payments"
    match {
      expr {
        expression = "request.path == '/v1/stripe/webhook'"
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = var.webhook_requests_per_minute
        interval_sec = 60
      }
    }
  }

  rule {
    priority    = 2147483647
    action      = "throttle"
    description = "Everybody: so many requests from one address"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = var.requests_per_minute
        interval_sec = 60
      }
    }
  }

  adaptive_protection_config {
    layer_7_ddos_defense_config {
      enable = true
    }
  }
}
