# A project that never is, for all tests.
project           = "faregate-test"
customers_project = "faregate-test-customers"
region            = "europe-west1"
domain            = "api.example.com"
billing_account   = "000000-000000-000000"
image             = "europe-west1-docker.pkg.dev/faregate-test/faregate/functions@sha256:0000000000000000000000000000000000000000000000000000000000000000"

supabase_url       = "https://test.supabase.co"
pooler_clients_max = 600
keep_warm          = true

stripe_live_mode     = true
stripe_account_id    = "acct_test"
checkout_success_url = "https://app.example.com/paid"
checkout_cancel_url  = "https://app.example.com/credits"
top_up_url           = "https://app.example.com/credits"
invitation_url       = "https://app.example.com/invitation"
cors_allowed_origins = ["https://app.example.com"]
seller_name          = "Example"
seller_address       = "1 Main Street; Springfield"
has_s3_endpoints     = true

alert_emails     = ["operations@example.com"]
budget_per_month = 100
