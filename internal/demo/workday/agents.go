package workday

// askers are the agents that ask, two for each kind of question.
var askers = []asker{
	{agent: agent{folder: "payments", host: "maya-laptop", tasks: paymentsTasks}, tool: claude{}, kind: permissions},
	{agent: agent{folder: "ledger-api", host: "jonas-desktop", tasks: ledgerTasks}, tool: codex{}, kind: permissions, odd: true},
	{agent: agent{folder: "storefront", host: "aiko-macbook", tasks: storefrontTasks}, tool: claude{}, kind: choices},
	{agent: agent{folder: "infra", host: "jonas-desktop", tasks: infraTasks}, tool: openCode{}, kind: choices, odd: true},
	{agent: agent{folder: "mobile-app", host: "omar-laptop", tasks: mobileTasks}, tool: claude{}, kind: plans},
	{agent: agent{folder: "search", host: "devbox-2", tasks: searchTasks}, tool: claude{}, kind: plans, odd: true},
}

// workers are the agents that work by themselves.
var workers = []worker{
	{agent{tool: gemini{}, folder: "docs-site", host: "maya-laptop", tasks: docsTasks}},
	{agent{tool: cursor{}, folder: "web-dashboard", host: "aiko-macbook", tasks: dashboardTasks}},
	{agent{tool: codex{}, folder: "data-pipeline", host: "devbox-2", tasks: pipelineTasks}},
	{agent{tool: claude{}, folder: "billing-worker", host: "devbox-2", tasks: billingTasks}},
}

// services are what the deploy bot releases.
var services = []string{"payments", "storefront", "search", "ledger-api", "billing-worker"}

// pulls are the changes that the ci bot tests.
var pulls = []struct {
	title string
	tests int
}{
	{"payments: retry declined cards once", 412},
	{"storefront: lazy-load product images", 688},
	{"ledger-api: page through entries by cursor", 297},
	{"search: synonyms for sizes", 351},
	{"mobile-app: biometric sign-in", 204},
	{"web-dashboard: dark theme", 533},
	{"billing-worker: prorate annual plans", 178},
	{"infra: upgrade Postgres to 18", 64},
}

// broken are the test runs that fail.
var broken = []struct{ topic, title, running, failed, log, fix string }{
	{"nightly-e2e", "Nightly end-to-end tests", "Running 86 scenarios", "2 of 86 scenarios failed: checkout with a gift card, refund to a closed account",
		"--- FAIL: checkout with a gift card (31.4s)\n    cart.spec.ts:118: expected total 42.00, got 47.00\n--- FAIL: refund to a closed account (12.0s)\n    refund.spec.ts:64: 500 Internal Server Error", "b7d1e04"},
	{"migrations", "Migrations on a copy of production", "Applying 3 migrations to 214 GB", "Migration 0143 timed out after 90 s: waiting for a lock on invoices",
		"0141_add_currency.sql      0.8s\n0142_backfill_currency.sql 61.2s\n0143_currency_not_null.sql ERROR: canceling statement due to lock timeout", "40c9a17"},
	{"load-test", "Load test of checkout", "Ramping up to 1,200 requests per second", "p99 is 1,840 ms at 900 requests per second, the limit is 800 ms",
		"rps   p50    p99\n300   41 ms  190 ms\n600   55 ms  410 ms\n900   98 ms  1840 ms", "e2f6610"},
}

// followUps are what people ask for after an answer.
var followUps = []task{
	{prompt: "Add a test for that", before: []string{"search func Test", "edit tests/regression_test.go", "run make test"}, answer: "Added a test that fails without the change. All tests pass."},
	{prompt: "Looks good. Update the changelog and open a pull request", before: []string{"edit CHANGELOG.md", "run git commit -am \"Update the changelog\"", "run gh pr create --fill"}, answer: "The pull request is open. The checks are running."},
	{prompt: "Is the same problem anywhere else?", before: []string{"search TODO", "search deprecated", "read README.md"}, answer: "I found two more places. Neither is reachable from production code, so I left them alone."},
	{prompt: "Rebase on main and run everything again", before: []string{"run git fetch && git rebase origin/main", "run make test", "run make lint"}, answer: "Rebased without conflicts. Tests and linters pass."},
	{prompt: "Make the names a bit clearer", before: []string{"read src/index", "edit src/index", "run make lint"}, answer: "Renamed three functions and one type. No behaviour changed."},
}

// The tasks of each agent. The first line of a prompt is the title of its session.

var paymentsTasks = []task{
	{prompt: "The checkout test fails about once in ten runs. Find out why and fix it", before: []string{"search TestCheckout", "read internal/checkout/session_test.go"},
		asks: &question{command: "go test -race -count=50 ./internal/checkout"}, after: []string{"edit internal/checkout/session.go", "run go test ./internal/checkout"},
		answer: "The session cache was read without its lock. The test passes 50 times in a row with the race detector."},
	{prompt: "Retry declined cards once, but never after a fraud decline", before: []string{"read internal/charge/decline.go", "edit internal/charge/retry.go"},
		asks: &question{command: "git push -u origin retry-declined-cards"}, after: []string{"run gh pr create --fill"},
		answer: "Soft declines are retried once after two seconds. Fraud declines never are. The pull request is #4812."},
	{prompt: "Why did refunds take 9 s on Tuesday evening?", before: []string{"search refund.duration", "read internal/refund/worker.go"},
		asks: &question{command: "psql \"$REPLICA_URL\" -f scripts/slow-refunds.sql"}, after: []string{"read internal/refund/batch.go"},
		answer: "The nightly export held a lock on refunds from 19:02 to 19:41. Moving the export to the replica removes the wait."},
	{prompt: "Upgrade the Stripe SDK to the current version", before: []string{"read go.mod", "search stripe.Charge"},
		asks: &question{command: "go get github.com/stripe/stripe-go/v84@latest && go mod tidy"}, after: []string{"edit internal/stripe/client.go", "run go test ./..."},
		answer: "Upgraded. Two renamed fields needed changes, and all 412 tests pass."},
	{prompt: "Delete the old webhook handlers, nobody calls them since March", before: []string{"search handleLegacyWebhook", "run git log --oneline -5 -- internal/webhook/legacy"},
		asks: &question{command: "rm -r internal/webhook/legacy"}, after: []string{"run go build ./... && go test ./..."},
		answer: "Removed 1,140 lines. Nothing else refers to them."},
}

var ledgerTasks = []task{
	{prompt: "Page through ledger entries by cursor instead of offset", before: []string{"read src/entries/list.py", "edit src/entries/list.py"},
		asks: &question{command: "docker compose up -d postgres", text: "The tests need a database"}, after: []string{"run pytest tests/entries"},
		answer: "Entries are paged by (booked_at, id). Page 4,000 now takes 3 ms instead of 2.1 s."},
	{prompt: "Entries in JPY are rounded to two decimals. Yen has none", before: []string{"search quantize", "edit src/money/rounding.py"},
		asks: &question{command: "python scripts/check_rounding.py --against production-replica", text: "Read-only check of booked entries"}, after: []string{"run pytest tests/money"},
		answer: "Rounding follows the currency's minor unit. 212 booked entries are off by less than a yen: the list is in rounding.csv."},
	{prompt: "Write a migration that adds the column settled_at, without locking the table", before: []string{"read migrations/0142_backfill_currency.sql", "edit migrations/0144_settled_at.sql"},
		asks: &question{command: "make migrate ENV=staging", text: "Apply the migration to staging"}, after: []string{"run make schema-diff ENV=staging"},
		answer: "The migration ran on staging in 0.4 s, without a lock longer than 20 ms."},
	{prompt: "The type checker reports 31 errors since the upgrade", before: []string{"run mypy src", "edit src/accounts/models.py"},
		asks: &question{command: "pip install types-python-dateutil", text: "Install missing type stubs"}, after: []string{"run mypy src"},
		answer: "No errors are left. Two of them were real: an account could be None in closing()."},
}

var storefrontTasks = []task{
	{prompt: "Show the delivery date on the product page", before: []string{"read src/pages/product/[slug].tsx", "search deliveryEstimate"},
		asks:  &question{text: "Where should the delivery date go?", header: "Placement", choices: []string{"Below the price", "Next to the button", "In the details"}},
		after: []string{"edit src/pages/product/[slug].tsx", "run npm test -- product"}, answer: "The date is below the price and updates with the postcode."},
	{prompt: "The cart forgets its items after signing in", before: []string{"search mergeCart", "read src/cart/merge.ts"},
		asks:  &question{text: "What if both carts have the same item?", header: "Merge", choices: []string{"Add the quantities", "Keep the larger one", "Ask the customer"}},
		after: []string{"edit src/cart/merge.ts", "run npm test -- cart"}, answer: "The carts are merged at sign-in. Quantities are added, up to the stock."},
	{prompt: "商品一覧の画像を遅延読み込みにして", before: []string{"search <img", "read src/components/ProductGrid.tsx"},
		asks:  &question{text: "Which images should load immediately?", header: "Images", choices: []string{"The first row only", "The first two rows", "None"}},
		after: []string{"edit src/components/ProductGrid.tsx", "run npm test -- ProductGrid"}, answer: "最初の行だけすぐに読み込み、残りは表示領域に近づいたときに読み込みます。LCP は 3.1 秒から 1.6 秒になりました。"},
	{prompt: "Replace moment with something smaller", before: []string{"search from 'moment'", "run npx depcheck"},
		asks:  &question{text: "Which date library should replace moment?", header: "Library", choices: []string{"date-fns", "Day.js", "Temporal, with a polyfill"}},
		after: []string{"edit src/lib/dates.ts", "run npm run build"}, answer: "moment is gone from 14 files. The bundle is 61 kB smaller."},
	{prompt: "Fix the contrast of the sale badges", before: []string{"read src/styles/badges.css"},
		asks:  &question{text: "Which of these reds fits the brand?", header: "Colour", choices: []string{"#B3261E", "#C2185B", "#9A3412"}},
		after: []string{"edit src/styles/badges.css", "run npm run test:a11y"}, answer: "The badges have a contrast of 6.1:1."},
}

var infraTasks = []task{
	{prompt: "Upgrade Postgres to 18 in staging", before: []string{"read terraform/staging/postgres.tf", "run terraform plan -target=module.postgres"},
		asks:  &question{text: "How should staging be upgraded?", header: "Upgrade", choices: []string{"In place, 10 minutes down", "Blue/green", "Restore into a new cluster"}},
		after: []string{"edit terraform/staging/postgres.tf", "run terraform plan"}, answer: "Staged as blue/green."},
	{prompt: "Alerts for the payment queue fire every night", before: []string{"read alerts/payments.yaml", "search queue_depth"},
		asks:  &question{text: "When should the queue alert page someone?", header: "Alert", choices: []string{"After 15 minutes", "Above 10,000 messages", "Only in office hours"}},
		after: []string{"edit alerts/payments.yaml", "run promtool test rules alerts/tests/*.yaml"}, answer: "Done."},
	{prompt: "Give the search nodes more memory", before: []string{"run kubectl top pods -n search", "read helm/search/values.yaml"},
		asks:  &question{text: "How much memory should each search node get?", header: "Memory", choices: []string{"24 GiB", "32 GiB", "48 GiB"}},
		after: []string{"edit helm/search/values.yaml", "run helm diff upgrade search helm/search"}, answer: "Done."},
	{prompt: "Rotate the TLS certificates of the internal services", before: []string{"search secretName", "run kubectl get certificates -A"},
		asks:  &question{text: "Which services should go first?", header: "Order", choices: []string{"Those that expire first", "Staging", "All at once"}},
		after: []string{"run kubectl cert-manager renew -n staging --all"}, answer: "Done."},
}

var mobileTasks = []task{
	{prompt: "أضف تسجيل الدخول ببصمة الوجه", before: []string{"read ios/App/Auth/SignIn.swift", "search LAContext"},
		asks: &question{plan: "# Biometric sign-in\n\n1. Keep the refresh token in the keychain, behind biometry\n2. Offer Face ID after the second sign-in by password\n3. Fall back to the password after three attempts\n4. Test on the simulator with and without enrolment"}, after: []string{"edit ios/App/Auth/Biometry.swift", "run make test-ios"},
		answer: "تمت إضافة تسجيل الدخول ببصمة الوجه، مع الرجوع إلى كلمة المرور بعد ثلاث محاولات."},
	{prompt: "Make the app start in under a second", before: []string{"run make trace-startup", "read lib/main.dart"},
		asks: &question{plan: "# Start in under a second\n\n1. Load the catalogue after the first frame\n2. Open the database on a background isolate\n3. Drop the splash animation\n\nExpected: 1.9 s → 0.8 s on a Pixel 8a"}, after: []string{"edit lib/main.dart", "run make trace-startup"},
		answer: "The first frame comes after 0.78 s, measured over 20 starts."},
	{prompt: "Push notifications arrive twice on Android", before: []string{"search onMessageReceived", "read android/app/src/main/PushService.kt"},
		asks: &question{plan: "# One notification per order\n\n1. Use the order ID as the notification's tag\n2. Unregister old tokens at sign-in\n3. Remove the second receiver from the manifest"}, after: []string{"edit android/app/src/main/PushService.kt", "run ./gradlew testDebug"},
		answer: "Two receivers were registered. One is gone, and repeats replace each other."},
	{prompt: "Support the offline mode that we promised in the last release notes", before: []string{"read docs/offline.md", "search connectivity"},
		asks: &question{plan: "# Offline mode\n\n1. Cache the catalogue and open orders\n2. Queue changes, and send them in order once online\n3. Show what is pending\n\nNot included: payments"}, after: []string{"edit lib/sync/queue.dart", "run flutter test"},
		answer: "The catalogue and orders work offline. Changes wait in a queue."},
}

var searchTasks = []task{
	{prompt: "Searching for \"sneaker\" should also find \"trainers\"", before: []string{"read config/synonyms.txt", "search SynonymFilter"},
		asks: &question{plan: "# Synonyms\n\n1. Expand synonyms when searching, not when indexing\n2. Take the first 200 from the search log\n3. Compare nDCG before and after"}, after: []string{"edit config/synonyms.txt", "run make evaluate"},
		answer: "nDCG@10 rises from 0.412 to 0.431. Indexing is unchanged."},
	{prompt: "Reindexing takes 40 minutes, bring it below 10", before: []string{"run make profile-reindex", "read indexer/bulk.rs"},
		asks: &question{plan: "# Reindex in parallel\n\n1. Read the catalogue in 16 ranges of IDs\n2. Write segments per range, merge once at the end\n3. Switch the alias when the counts match"}, after: []string{"edit indexer/bulk.rs", "run cargo test -p indexer"},
		answer: "A full reindex takes 7 min 40 s with 16 ranges."},
	{prompt: "Filter by size and colour at the same time", before: []string{"read api/filters.rs", "search facet_counts"},
		asks: &question{plan: "# Combined filters\n\n1. Index variants as nested documents\n2. Count facets per variant\n3. Keep old links working"}, after: []string{"edit api/filters.rs", "run cargo test -p api"},
		answer: "Filters apply to the same variant now. Old links still work."},
	{prompt: "Log slow queries with enough detail to repeat them", before: []string{"read api/server.rs"},
		asks: &question{plan: "# Slow query log\n\n1. Log queries above 300 ms, at most 10 a second\n2. Include the normalized query, without customer IDs\n3. Add `make replay-slow`"}, after: []string{"edit api/slowlog.rs", "run cargo clippy"},
		answer: "Queries above 300 ms are logged, and make replay-slow repeats them."},
}

var docsTasks = []task{
	{prompt: "Every code sample in the quickstart should run", before: []string{"read content/quickstart.md", "run npm run test:samples", "edit content/quickstart.md"}, answer: "All 14 samples run in a test. Three of them were broken."},
	{prompt: "Find dead links and fix them", before: []string{"run npx linkinator ./public", "search https://old-docs", "edit content/guides/webhooks.md"}, answer: "Fixed 22 links. Two pages are gone for good, so I removed the links to them."},
	{prompt: "Write a migration guide from v2 to v3 of the API", before: []string{"read api/v3.yaml", "read content/api/v2.md", "edit content/guides/migrate-v3.md"}, after: []string{"run npm run build"}, answer: "The guide covers all 9 breaking changes, each with an example before and after."},
	{prompt: "Explain idempotency keys in one page", before: []string{"search Idempotency-Key", "edit content/concepts/idempotency.md", "run npm run lint:prose"}, answer: "The page is content/concepts/idempotency.md: 480 words and two examples."},
}

var dashboardTasks = []task{
	{prompt: "Dark theme for the reports page", before: []string{"read src/theme/tokens.css", "edit src/theme/dark.css", "edit src/pages/Reports.vue"}, after: []string{"run pnpm test"}, answer: "The reports page follows the system's theme. The charts have their own palette."},
	{prompt: "The revenue chart is off by one day in Sydney", before: []string{"search startOf('day')", "read src/charts/buckets.ts", "edit src/charts/buckets.ts", "run pnpm test buckets"}, answer: "Days are cut in the account's time zone, not in the browser's."},
	{prompt: "Export the table of customers as CSV", before: []string{"read src/pages/Customers.vue", "edit src/lib/csv.ts", "run pnpm test csv"}, answer: "The export streams, so 200,000 rows work as well."},
	{prompt: "Why does the bundle include lodash twice?", before: []string{"run pnpm why lodash", "read vite.config.ts", "edit package.json"}, answer: "An old chart plugin pinned lodash 3. Its update removes the second copy: 71 kB less."},
}

var pipelineTasks = []task{
	{prompt: "Backfill last week's orders", before: []string{"read dags/orders.py", "run python -m backfill orders --last-week --dry-run"}, after: []string{"run python -m backfill orders --last-week"}, answer: "7 days are backfilled, 1,204,551 orders. The totals match the ledger."},
	{prompt: "Drop rows without a customer instead of failing the whole load", before: []string{"read transforms/customers.py", "edit transforms/customers.py", "run pytest tests/transforms"}, answer: "Such rows go to a table of rejects with the reason. A load fails only above 1 % rejects."},
	{prompt: "Speed up the daily sessions job", before: []string{"run python -m profile sessions", "read sql/sessions.sql", "edit sql/sessions.sql"}, after: []string{"run pytest tests/sessions"}, answer: "The job takes 6 minutes instead of 31: it no longer sorts all events twice."},
	{prompt: "Document every column of the orders table", before: []string{"read models/orders.yml", "search orders.", "edit models/orders.yml"}, answer: "All 46 columns have a description. Three looked unused, so I listed them at the top."},
}

var billingTasks = []task{
	{prompt: "Prorate annual plans when they change in the middle of a year", before: []string{"read lib/billing/proration.ex", "search change_plan", "edit lib/billing/proration.ex"}, after: []string{"run mix test test/proration_test.exs"}, answer: "Changes are prorated by day. Leap years have their own test."},
	{prompt: "Invoices of closed accounts are still sent", before: []string{"search send_invoice", "read lib/billing/scheduler.ex", "edit lib/billing/scheduler.ex", "run mix test"}, answer: "The scheduler skips closed accounts. 3 invoices were wrongly sent this month, see the list."},
	{prompt: "Move the VAT rates into a table", before: []string{"read lib/billing/vat.ex", "edit priv/repo/migrations/add_vat_rates.exs", "edit lib/billing/vat.ex", "run mix test"}, answer: "Rates have a start date, so a change of rates needs no deploy any more."},
	{prompt: "Retry failed e-mails with a backoff", before: []string{"read lib/mail/outbox.ex", "edit lib/mail/outbox.ex", "run mix test test/mail"}, answer: "E-mails are tried 8 times over a day, then listed for a person."},
}
