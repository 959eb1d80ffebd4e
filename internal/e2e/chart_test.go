//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// The tools that the tests of the chart run, each at a version whose output is known.
const (
	helmModule        = "helm.sh/helm/v4/cmd/helm@v4.3.1"
	kubeconformModule = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
	kustomizeModule   = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.2"
)

// needChart skips a test unless those of the chart are wanted.
func needChart(t *testing.T) {
	t.Helper()
	if os.Getenv(chartVariable) == "" {
		t.Skip("set " + chartVariable + "=1, or run make test-chart")
	}
}

// tool returns a function that installs a tool, once, and returns its path.
func tool(module string) func() string {
	return sync.OnceValue(func() string {
		name := regexp.MustCompile(`(/v\d+)?@.*$`).ReplaceAllString(module, "")
		install := exec.Command("go", "install", module) //nolint:noctx // the build ends by itself
		install.Env = append(os.Environ(), "GOBIN="+buildDir(), "GOFLAGS=-mod=mod")
		if out, err := install.CombinedOutput(); err != nil {
			panic(module + ": " + string(out))
		}
		return filepath.Join(buildDir(), filepath.Base(name))
	})
}

var helm, kubeconform, kustomize = tool(helmModule), tool(kubeconformModule), tool(kustomizeModule)

// runTool runs a tool in a directory that knows no cluster, and returns its output and whether it succeeded.
func runTool(t testing.TB, path string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "KUBECONFIG=/dev/null")
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), err == nil
}

// render renders the chart as the release kubeagents in the namespace kubeagents.
func render(t testing.TB, args ...string) string {
	t.Helper()
	out, errs, ok := runTool(t, helm(), append([]string{"template", "kubeagents", chartDir, "--namespace", "kubeagents"}, args...)...)
	require.True(t, ok, "%s", errs)
	return out
}

// valueSets returns the files of values that the chart is tested with, by name.
func valueSets(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(chartDir + "/ci/*-values.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	sets := map[string]string{}
	for _, path := range paths {
		sets[strings.TrimSuffix(filepath.Base(path), "-values.yaml")] = path
	}
	return sets
}

// TestChartIsValid renders the chart with each set of values, and checks every object against the schemas of the oldest
// and the newest version of Kubernetes. A field that Kubernetes does not know fails.
func TestChartIsValid(t *testing.T) {
	needChart(t)
	for name, path := range valueSets(t) {
		t.Run(name, func(t *testing.T) {
			out, errs, ok := runTool(t, helm(), "lint", "--strict", "--values", path, chartDir)
			require.True(t, ok, "%s%s", out, errs)
			rendered := writeFile(t, filepath.Join(t.TempDir(), "rendered.yaml"), []byte(render(t, "--values", path)))
			for _, version := range []string{"v1.31", "v1.37"} {
				out, errs, ok := conforms(t, version, rendered)
				require.True(t, ok, "%s: %s%s", version, out, errs)
			}
		})
	}
}

// TestChartExamples checks the examples of agents in Pods against the same schemas.
func TestChartExamples(t *testing.T) {
	needChart(t)
	examples, err := filepath.Glob(root + "/deploy/examples/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, examples)
	for _, path := range examples {
		for _, version := range []string{"v1.31", "v1.37"} {
			out, errs, ok := conforms(t, version, path)
			require.True(t, ok, "%s, %s: %s%s", path, version, out, errs)
		}
	}
}

// TestChartSchemasAreStrict checks that the schemas by which the chart is tested find what is wrong.
func TestChartSchemasAreStrict(t *testing.T) {
	needChart(t)
	good := render(t, "--values", chartDir+"/ci/everything-values.yaml")
	for name, change := range map[string][2]string{
		"an unknown field of a container":        {"imagePullPolicy:", "imagePullPolicies:"},
		"an unknown field of a probe":            {"failureThreshold:", "failureTreshold:"},
		"text for a number":                      {"terminationGracePeriodSeconds: 50", "terminationGracePeriodSeconds: 50s"},
		"a number for the value of a variable":   {`value: "8080"`, `value: 8080`},
		"an unknown field of an HTTPRoute":       {"backendRequest:", "backendRequests:"},
		"an unknown field of a ServiceMonitor":   {"scrapeTimeout:", "scrapeTimeOut:"},
		"an unknown field of a CronJob":          {"concurrencyPolicy:", "concurrency:"},
		"an unknown field of a NetworkPolicy":    {"policyTypes:", "policies:"},
		"an unknown field of a PrometheusRule":   {"- alert: KubeAgentsDown", "- alarm: KubeAgentsDown"},
		"an unknown field of a BackendTLSPolicy": {"wellKnownCACertificates:", "wellKnownCA:"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, good, change[0])
			bad := strings.Replace(good, change[0], change[1], 1)
			out, _, ok := conforms(t, "v1.37", writeFile(t, filepath.Join(t.TempDir(), "bad.yaml"), []byte(bad)))
			require.False(t, ok, out)
		})
	}
}

func conforms(t testing.TB, version, path string) (stdout, stderr string, ok bool) {
	t.Helper()
	const name = "/{{.ResourceKind}}{{.KindSuffix}}.json"
	return runTool(t, kubeconform(), "-strict", "-schema-location", "testdata/chart/schemas/"+version+name,
		"-schema-location", "testdata/chart/schemas/custom"+name, path)
}

// TestChartGolden compares what the chart renders with files, so that a change of it is seen.
func TestChartGolden(t *testing.T) {
	needChart(t)
	for _, name := range []string{"tokens", "backup", "everything", "cluster", "cluster-mtls"} {
		rendered := render(t, "--values", valueSets(t)[name], "--set", "connect.enabled=false") // TestChartConnect compares its lines
		if _, board, ok := strings.Cut(rendered, "  kubeagents.json: |\n"); ok {                // TestChartCopies compares these
			end := strings.Index(board, "\n---")
			rendered = strings.Replace(rendered, board[:end], "    …", 1)
		}
		if _, rules, ok := strings.Cut(rendered, "  groups:\n"); ok {
			end := strings.Index(rules, "\n---")
			rendered = strings.Replace(rendered, rules[:end], "    …", 1)
		}
		requireFile(t, "testdata/chart/golden/"+name+".yaml", rendered)
	}
}

// TestChartManifests compares the plain manifests with what the chart renders, and lets kustomize build them.
func TestChartManifests(t *testing.T) {
	needChart(t)
	rendered := render(t, "--values", root+"/deploy/manifests/values.yaml", "--skip-tests")
	rendered = regexp.MustCompile(`(?m)^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n|^# Source: .*\n`).ReplaceAllString(rendered, "")
	const comment = "# Rendered from deploy/chart with values.yaml. Do not edit: make manifests writes it.\n"
	requireFile(t, root+"/deploy/manifests/kubeagents.yaml", comment+rendered)

	built, errs, ok := runTool(t, kustomize(), "build", root+"/deploy/manifests")
	require.True(t, ok, "%s", errs)
	got := objectsIn(t, built)
	want := append(objectsIn(t, readFile(t, root+"/deploy/manifests/namespace.yaml")), objectsIn(t, rendered)...)
	require.ElementsMatch(t, want, got)
	out, errs, ok := conforms(t, "v1.31", writeFile(t, filepath.Join(t.TempDir(), "built.yaml"), []byte(rendered)))
	require.True(t, ok, "%s%s", out, errs)
}

// manifest is an object of Kubernetes.
type manifest map[string]any

func (o manifest) kind() string { return o["kind"].(string) }
func (o manifest) name() string { return at[string](o, "metadata", "name") }

// at returns what is at a path in an object, or the zero value if there is nothing.
func at[T any](o map[string]any, path ...string) T {
	var value any = o
	for _, name := range path {
		inner, _ := value.(map[string]any)
		value = inner[name]
	}
	result, _ := value.(T)
	return result
}

func objectsIn(t testing.TB, text string) (objects []manifest) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o manifest
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		if o != nil {
			objects = append(objects, o)
		}
	}
}

func find(t testing.TB, objects []manifest, kind, name string) manifest {
	t.Helper()
	i := slices.IndexFunc(objects, func(o manifest) bool { return o.kind() == kind && o.name() == name })
	require.GreaterOrEqual(t, i, 0, "%s %s", kind, name)
	return objects[i]
}

// TestChartTrustsTheAuthorityOfInternalURL checks that the chart's own clients trust the authority of a proxy that
// terminates TLS.
func TestChartTrustsTheAuthorityOfInternalURL(t *testing.T) {
	needChart(t)
	objects := objectsIn(t, render(t, "--values", chartDir+"/ci/backup-values.yaml", "--set",
		"internalURL=https://hub.example.com,tls.ca.existingSecret=authority,watcher.enabled=true,watcher.image.repository=r/w,watcher.token.existingSecret=w"))
	for name, pod := range map[string]map[string]any{
		"backup":  at[map[string]any](find(t, objects, "CronJob", "kubeagents-backup"), "spec", "jobTemplate", "spec", "template", "spec"),
		"watcher": at[map[string]any](find(t, objects, "Deployment", "kubeagents-watcher"), "spec", "template", "spec"),
		"test":    at[map[string]any](find(t, objects, "Pod", "kubeagents-test"), "spec"),
	} {
		rendered, err := yaml.Marshal(pod)
		require.NoError(t, err)
		require.Contains(t, string(rendered), "secretName: authority", name)
		require.Contains(t, string(rendered), "name: SSL_CERT_DIR", name)
		require.Contains(t, string(rendered), "mountPath: /etc/kubeagents/ca", name)
	}
}

// TestChartRefuses checks what a person is told about values that would not run.
func TestChartRefuses(t *testing.T) {
	needChart(t)
	const tokens, cluster = "image.repository=r/k,tokens.existingSecret=t", ",replicaCount=3,nats.url=nats://nats:4222"
	for name, test := range map[string]struct{ values, want string }{
		"no image":                               {"allowAnyone=true", "- image.repository is not set"},
		"no tokens":                              {"image.repository=r/k", "- there are no tokens, so anyone in the cluster could report, read and remove. Set tokens.existingSecret"},
		"tokens and none":                        {tokens + ",allowAnyone=true", "allowAnyone and tokens.existingSecret exclude each other"},
		"no server":                              {tokens + ",replicaCount=0", "at '/replicaCount': minimum: got 0, want 1"},
		"two servers without NATS":               {tokens + ",replicaCount=2", "- replicaCount is 2, but several servers need NATS: set nats.url, or replicaCount=1"},
		"an even number of NATS nodes":           {tokens + cluster + ",nats.replicas=2", "at '/nats/replicas': value must be one of 1, 3, 5"},
		"two credentials for NATS":               {tokens + cluster + ",nats.creds.existingSecret=a,nats.nkey.existingSecret=b", "- nats.creds and nats.nkey exclude each other: set one of them"},
		"credentials for no NATS":                {tokens + ",nats.nkey.existingSecret=b", "- nats.nkey.existingSecret needs nats.url"},
		"a certificate for no NATS":              {tokens + ",nats.tls.existingSecret=b", "- nats.tls.existingSecret needs nats.url"},
		"a password of NATS among the values":    {tokens + ",nats.url=nats://me:secret@nats:4222", "- nats.url contains a user or a password: remove it"},
		"a user of NATS without a password":      {tokens + cluster + ",nats.user.name=me", "- nats.user.name and nats.user.existingSecret belong together"},
		"a password of NATS without a user":      {tokens + cluster + ",nats.user.existingSecret=s", "- nats.user.name and nats.user.existingSecret belong together"},
		"addresses of something else":            {tokens + ",nats.url=http://nats:8222", "at '/nats/url'"},
		"an unknown value of NATS":               {tokens + ",nats.urls=nats://nats", "at '/nats': additional properties 'urls' not allowed"},
		"a setting of NATS":                      {tokens + ",settings.NATS_URL=nats://nats", "settings.NATS_URL is set by the chart: use nats.url instead"},
		"a variable with NATS's address":         {tokens + ",extraEnv[0].name=NATS_URL", "extraEnv sets NATS_URL, which the chart sets: use nats.url instead"},
		"a name for all servers":                 {tokens + cluster + ",settings.SERVER_NAME=hub", "settings.SERVER_NAME is set by the chart: use nats.url instead"},
		"several servers without volumes":        {tokens + cluster + ",persistence.enabled=false", "- nats.url needs persistence.enabled"},
		"several servers with one volume":        {tokens + cluster + ",persistence.existingClaim=c", "- persistence.existingClaim is one volume, but each of several servers needs its own"},
		"restoring beside a stream":              {tokens + cluster + ",replicaCount=1,restore.from=x,restore.existingClaim=c", "- restore.from and nats.url exclude each other"},
		"an unknown value":                       {tokens + ",tolerance=1", "additional properties 'tolerance' not allowed"},
		"an unknown setting":                     {tokens + ",settings.PROT=1", "at '/settings': additional properties 'PROT' not allowed"},
		"an unknown setting of the watcher":      {tokens + ",watcher.settings.PORT=1", "at '/watcher/settings': additional properties 'PORT' not allowed"},
		"a setting that the chart sets":          {tokens + ",settings.TLS_CERT_FILE=x", "settings.TLS_CERT_FILE is set by the chart: use tls.existingSecret instead"},
		"a secret among the settings":            {tokens + ",settings.WEBHOOK_SECRET=whsec_x", "settings.WEBHOOK_SECRET is set by the chart: use webhookSecret.existingSecret instead"},
		"a duration that is none":                {tokens + ",settings.SHUTDOWN_TIMEOUT=ten", "at '/settings/SHUTDOWN_TIMEOUT'"},
		"a size that is none":                    {tokens + ",settings.HISTORY_MAX_BYTES=much", "at '/settings/HISTORY_MAX_BYTES'"},
		"too little memory":                      {tokens + ",resources.limits.memory=2Gi,settings.HISTORY_MAX_BYTES=2GiB", "HISTORY_MAX_BYTES=2GiB, ANSWERS_MAX_BYTES=64MiB and BODIES_MAX_BYTES=64MiB need 4736Mi: raise the limit"},
		"too little memory for the default":      {tokens + ",resources.limits.memory=2Gi,settings.HISTORY_MAX_BYTES=null", "HISTORY_MAX_BYTES=2GiB"},
		"too little time to stop":                {tokens + ",settings.SHUTDOWN_TIMEOUT=1m,terminationGracePeriodSeconds=60", "must be longer than settings.SHUTDOWN_TIMEOUT"},
		"client certificates without TLS":        {tokens + ",tls.clientCA.existingSecret=c", "tls.clientCA.existingSecret needs tls.existingSecret"},
		"rules whose key on Helm takes for true": {tokens + ",notify.rules.on=x", "at '/notify/rules': got object, want string"},
		"rules from two places":                  {tokens + ",notify.existingSecret=a,notify.existingConfigMap=b", "notify.existingSecret and notify.existingConfigMap exclude each other"},
		"an ingress without a host":              {tokens + ",ingress.enabled=true", "ingress.host is not set"},
		"a route without a gateway":              {tokens + ",gateway.enabled=true,gateway.host=h.example", "gateway.parentRefs is empty"},
		"TLS to a server without":                {tokens + ",gateway.backendTLS.enabled=true", "gateway.backendTLS needs tls.existingSecret"},
		"two budgets":                            {tokens + ",podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=1", "exclude each other: set maxUnavailable to null"},
		"metrics without a token":                {tokens + ",serviceMonitor.enabled=true", "serviceMonitor.token.existingSecret is not set"},
		"backups without a token":                {tokens + ",backup.enabled=true", "backup.token.existingSecret is not set"},
		"backups of a server without tokens":     {"image.repository=r/k,allowAnyone=true,backup.enabled=true,backup.token.existingSecret=b", "backup.enabled needs tokens"},
		"backups with client certificates":       {tokens + ",tls.existingSecret=a,tls.clientCA.existingSecret=b,backup.enabled=true,backup.token.existingSecret=c", "backup.enabled and tls.clientCA exclude each other"},
		"restoring from nowhere":                 {tokens + ",restore.from=x", "restore.from needs a claim with backups"},
		"restoring from outside":                 {tokens + ",restore.from=../x,backup.enabled=true", "at '/restore/from'"},
		"restoring into nothing":                 {tokens + ",restore.from=x,restore.existingClaim=c,persistence.enabled=false", "restore.from needs persistence.enabled"},
		"a watcher without an image":             {tokens + ",watcher.enabled=true,watcher.token.existingSecret=w", "watcher.image.repository is not set"},
		"a watcher without a token":              {tokens + ",watcher.enabled=true,watcher.image.repository=r/w", "watcher.token.existingSecret is not set"},
		"a watcher with client certificates":     {tokens + ",tls.existingSecret=a,tls.clientCA.existingSecret=b,watcher.enabled=true", "watcher.enabled and tls.clientCA exclude each other"},
		"several things":                         {"settings.PORT=80", "- there are no tokens"},
		"a section that is empty":                {tokens + ",ingress=null", "at '': missing property 'ingress'"},
		"a value that is empty":                  {tokens + ",persistence.storageClass=null", "at '/persistence': missing property 'storageClass'"},
		"a variable that the chart sets":         {tokens + ",extraEnv[0].name=PORT", "extraEnv sets PORT, which the chart sets: use service.port instead"},
		"a variable that is a setting, too":      {tokens + ",extraEnv[0].name=LOG_FORMAT", "extraEnv and settings both set LOG_FORMAT: remove one of them"},
		"a variable of the watcher":              {tokens + ",watcher.extraEnv[0].name=POD_NAME", "watcher.extraEnv sets POD_NAME, which the chart sets"},
		"a name with a dot":                      {tokens + ",nameOverride=k,fullnameOverride=a.b", "at '/fullnameOverride'"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, ok := runTool(t, helm(), "template", "kubeagents", chartDir, "--set", test.values)
			require.False(t, ok, out)
			require.Contains(t, errs, test.want)
		})
	}
}

// TestChartRefusesReleases checks what a person is told about releases whose names no Service can have.
func TestChartRefusesReleases(t *testing.T) {
	needChart(t)
	for _, release := range []string{"12", "v1.2"} {
		out, errs, ok := runTool(t, helm(), "template", release, chartDir, "--set", "image.repository=r/k,tokens.existingSecret=t")
		require.False(t, ok, out)
		require.Contains(t, errs, "the objects would be named "+release+"-kubeagents, but a Service's name begins with a letter, and has no dots: set fullnameOverride")
		_, errs, ok = runTool(t, helm(), "template", release, chartDir, "--set", "image.repository=r/k,tokens.existingSecret=t,fullnameOverride=k")
		require.True(t, ok, errs)
	}
}

// TestChartTakesTextThatLooksLikeSomethingElse gives every value that is text one that YAML takes for something else, if
// the schema of the values allows it, in a release and a namespace whose names look like numbers, too. The objects must
// still be valid, and have the text.
func TestChartTakesTextThatLooksLikeSomethingElse(t *testing.T) {
	needChart(t)
	var schema map[string]any
	require.NoError(t, json.Unmarshal([]byte(readFile(t, chartDir+"/values.schema.json")), &schema))
	var everything map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, valueSets(t)["everything"])), &everything))
	keep := []string{"fullnameOverride", "resources.limits.memory", "notify.existingSecret", "notify.existingConfigMap", "notify.rules", "tls.clientCA.existingSecret",
		"nats.creds.existingSecret", "nats.nkey.existingSecret", "restore.from"} // they have to fit others
	for _, odd := range []string{"12", "1e3", "null", "true", "a: b #c", "/1: 2 #3"} {
		t.Run(odd, func(t *testing.T) {
			values := map[string]any{}
			changed := 0
			for path, property := range textsIn(schema, "") {
				pattern, _ := property["pattern"].(string)
				if property["enum"] != nil || slices.Contains(keep, path) || !regexp.MustCompile(pattern).MatchString(odd) {
					continue
				}
				changed++
				into := values
				names := strings.Split(path, ".")
				for _, name := range names[:len(names)-1] {
					if into[name] == nil {
						into[name] = map[string]any{}
					}
					into = into[name].(map[string]any)
				}
				into[names[len(names)-1]] = odd
			}
			require.Greater(t, changed, 5)
			text, err := json.Marshal(values)
			require.NoError(t, err)
			file := writeFile(t, filepath.Join(t.TempDir(), "odd.yaml"), text)
			out, errs, ok := runTool(t, helm(), "template", "12", chartDir, "--namespace", "34", "--values", valueSets(t)["everything"], "--values", file)
			require.True(t, ok, "%s", errs)
			out, errs, ok = conforms(t, "v1.37", writeFile(t, filepath.Join(t.TempDir(), "rendered.yaml"), []byte(out)))
			require.True(t, ok, "%s%s", out, errs)
		})
	}
}

// textsIn returns the properties in a schema that are text, by path.
func textsIn(schema map[string]any, path string) map[string]map[string]any {
	texts := map[string]map[string]any{}
	for name, p := range at[map[string]any](schema, "properties") {
		property, at := p.(map[string]any), strings.TrimPrefix(path+"."+name, ".")
		if property["type"] == "string" {
			texts[at] = property
		}
		maps.Copy(texts, textsIn(property, at))
	}
	return texts
}

// TestChartTakesEmptyValues leaves empty all that may be: in a file of values, a key with nothing after it is null, and
// null removes the default.
func TestChartTakesEmptyValues(t *testing.T) {
	needChart(t)
	var schema map[string]any
	require.NoError(t, json.Unmarshal([]byte(readFile(t, chartDir+"/values.schema.json")), &schema))
	empty := nulls(schema)
	require.Contains(t, empty, "commonLabels")
	require.Contains(t, empty["settings"], "SHUTDOWN_TIMEOUT")
	delete(empty["gateway"].(map[string]any), "parentRefs") // a route needs one
	text, err := json.Marshal(empty)
	require.NoError(t, err)
	file := writeFile(t, filepath.Join(t.TempDir(), "empty.yaml"), text)
	for _, name := range []string{"everything", "tokens"} {
		out := render(t, "--values", valueSets(t)[name], "--values", file)
		require.NotContains(t, out, "<nil>")
		require.NotContains(t, out, "<no value>")
		out, errs, ok := conforms(t, "v1.37", writeFile(t, filepath.Join(t.TempDir(), "rendered.yaml"), []byte(out)))
		require.True(t, ok, "%s%s", out, errs)
	}
}

// nulls returns values that are null wherever the schema does not require one.
func nulls(schema map[string]any) map[string]any {
	values := map[string]any{}
	required := at[[]any](schema, "required")
	for name, p := range at[map[string]any](schema, "properties") {
		property := p.(map[string]any)
		_, nullable := property["type"].([]any)
		switch {
		case slices.Contains(required, any(name)) && property["properties"] != nil:
			values[name] = nulls(property)
		case slices.Contains(required, any(name)), name == "global", name == "enabled" && schema["title"] != nil:
		case nullable, property["type"] != "string": // of what has no default, Helm keeps the null
			values[name] = nil
		}
	}
	return values
}

// TestChartKeepsRules checks that notification rules reach the server as they are, whatever text they are.
func TestChartKeepsRules(t *testing.T) {
	needChart(t)
	for name, rules := range map[string]string{
		"plain":             "rules:\n  - {name: a}\n",
		"without an end":    "rules: []",
		"indented":          "  rules:\n    - {name: a}\n",
		"an empty line":     "\nrules:\n\n\n  - a\n",
		"a template":        "destinations: {a: {url: '{{ .Values.x }} ${TOKEN}'}}\n",
		"quotes":            "a: \"b'c\\d\"\n",
		"the end of a file": "a: b\n---\nc: d\n...\n",
		"CRLF":              "a:\r\n  b\r\n",
		"a tab":             "\ta: b\n",
	} {
		file := writeFile(t, filepath.Join(t.TempDir(), "rules.yaml"), []byte(rules))
		objects := objectsIn(t, render(t, "--values", valueSets(t)["tokens"], "--set-file", "notify.rules="+file, "--set", "notify.key=1e3"))
		require.Equal(t, map[string]any{"1e3": rules}, at[map[string]any](find(t, objects, "ConfigMap", "kubeagents-notify"), "data"), name)
	}
}

// TestChartRenders checks single values that people rely on, by what they do to the objects.
func TestChartRenders(t *testing.T) {
	needChart(t)
	server := func(t *testing.T, set string) (o, pod, container map[string]any) {
		t.Helper()
		objects := objectsIn(t, render(t, "--values", chartDir+"/ci/tokens-values.yaml", "--set", set))
		o = find(t, objects, "StatefulSet", "kubeagents")
		pod = at[map[string]any](o, "spec", "template", "spec")
		return o, pod, pod["containers"].([]any)[0].(map[string]any)
	}
	for set, want := range map[string]map[string]string{
		"settings.MAX_SESSIONS=2000000":                                                     {"MAX_SESSIONS": "2000000"},
		"settings.TEAM_SHARE=0.25":                                                          {"TEAM_SHARE": "0.25"},
		"settings.METRICS_PUBLIC=true":                                                      {"METRICS_PUBLIC": "true"},
		"settings.LOG_FORMAT=null":                                                          {"LOG_FORMAT": ""},
		"resources.limits.memory=2Gi":                                                       {"GOMEMLIMIT": "1610612736"},
		"resources.limits.memory=null":                                                      {"GOMEMLIMIT": ""},
		"ingress.enabled=true,ingress.host=a.example":                                       {"PUBLIC_URL": "https://a.example"},
		"ingress.enabled=true,ingress.host=a.example,ingress.path=/k/":                      {"PUBLIC_URL": "https://a.example/k"},
		"ingress.enabled=true,ingress.host=a.example,ingress.tls.enabled=false":             {"PUBLIC_URL": "http://a.example"},
		"ingress.enabled=true,ingress.host=a.example,settings.PUBLIC_URL=https://b.example": {"PUBLIC_URL": "https://b.example"},
		"gateway.enabled=true,gateway.host=g.example,gateway.parentRefs[0].name=x":          {"PUBLIC_URL": "https://g.example"},
	} {
		_, _, container := server(t, set)
		got := map[string]string{}
		for _, variable := range container["env"].([]any) {
			v := variable.(map[string]any)
			got[v["name"].(string)] = v["value"].(string)
		}
		for name, value := range want {
			require.Equal(t, value, got[name], "%s: %s", set, name)
		}
	}
	numbers := writeFile(t, filepath.Join(t.TempDir(), "numbers.yaml"), []byte("settings: {HISTORY_MAX_BYTES: 268435456, MAX_SESSIONS: 2000000}\n"+
		"backup: {activeDeadlineSeconds: 2000000, keep: 2000000}\n")) // a file's numbers are floating-point ones
	rendered := render(t, "--values", valueSets(t)["backup"], "--values", numbers)
	for _, want := range []string{`value: "268435456"`, `value: "2000000"`, "activeDeadlineSeconds: 2000000\n", `- "2000000"`} {
		require.Contains(t, rendered, want)
	}
	for set, want := range map[string]uint64{
		"settings.SHUTDOWN_TIMEOUT=10s":                       25,
		"settings.SHUTDOWN_TIMEOUT=1m30s":                     105,
		"settings.SHUTDOWN_TIMEOUT=100ms":                     16,
		"settings.SHUTDOWN_TIMEOUT=10m,preStopSleepSeconds=5": 620,
		"terminationGracePeriodSeconds=40":                    40,
	} {
		_, pod, _ := server(t, set)
		require.Equal(t, want, pod["terminationGracePeriodSeconds"], set)
	}
}

// TestChartUpgrades checks that values and versions that may change in an upgrade leave alone what Kubernetes does not
// allow to change: most of a StatefulSet, and selectors.
func TestChartUpgrades(t *testing.T) {
	needChart(t)
	immutable := func(rendered string) map[string]any {
		result := map[string]any{}
		for _, o := range objectsIn(t, rendered) {
			switch spec := at[map[string]any](o, "spec"); o.kind() {
			case "StatefulSet":
				spec = maps.Clone(spec)
				for _, mutable := range []string{"replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy", "minReadySeconds"} {
					delete(spec, mutable)
				}
				result[o.kind()+o.name()] = spec
			case "Deployment":
				result[o.kind()+o.name()] = spec["selector"]
			}
		}
		return result
	}
	before := immutable(render(t, "--values", chartDir+"/ci/watcher-values.yaml"))
	require.Len(t, before, 2)
	require.Equal(t, immutable(render(t, "--values", chartDir+"/ci/tokens-values.yaml")), immutable(render(t, "--values", chartDir+"/ci/cluster-values.yaml")),
		"a server may become one of several")
	newer := filepath.Join(t.TempDir(), "chart")
	require.NoError(t, os.CopyFS(newer, os.DirFS(chartDir)))
	metadata := readFile(t, newer+"/Chart.yaml")
	writeFile(t, newer+"/Chart.yaml", []byte(regexp.MustCompile(`(?m)^(version|appVersion): .*`).ReplaceAllString(metadata, "$1: 9.9.9")))
	writeFile(t, filepath.Join(newer, "values-more.yaml"), []byte("commonLabels: {a: b}\ncommonAnnotations: {a: b}\npodLabels: {c: d}\nannotations: {e: f}\n"+
		"settings: {SHUTDOWN_TIMEOUT: 1m}\ntls: {existingSecret: t}\npersistence: {retention: {whenDeleted: Delete}}\nservice: {port: 80}\n"))
	out, errs, ok := runTool(t, helm(), "template", "kubeagents", newer, "--namespace", "kubeagents", "--values", chartDir+"/ci/watcher-values.yaml",
		"--values", newer+"/values-more.yaml")
	require.True(t, ok, errs)
	require.Contains(t, out, "kubeagents-9.9.9")
	require.Equal(t, before, immutable(out))
	require.NotContains(t, immutable(render(t, "--values", chartDir+"/ci/watcher-values.yaml", "--set", "persistence.size=1Gi")), before,
		"a larger volume is a change that Kubernetes refuses: the manual says how to make it")
}

// TestChartPodsAreRestricted checks that each Pod meets the restricted profile of the Pod Security Standards.
func TestChartPodsAreRestricted(t *testing.T) {
	needChart(t)
	const everything = "everything"
	objects := objectsIn(t, render(t, "--values", valueSets(t)[everything], "--set", "extraContainers=null,extraInitContainers=null"))
	pods := podsOf(objects)
	require.Len(t, pods, 4, "server, backup, watcher and test")
	for name, pod := range pods {
		require.Equal(t, true, at[bool](pod, "securityContext", "runAsNonRoot"), name)
		require.Equal(t, "RuntimeDefault", at[string](pod, "securityContext", "seccompProfile", "type"), name)
		require.Equal(t, uint64(65532), at[uint64](pod, "securityContext", "fsGroup"), name)
		require.Equal(t, false, pod["enableServiceLinks"], name)
		require.Equal(t, name == "Deployment/agents-watcher", pod["automountServiceAccountToken"], name)
		for _, volume := range at[[]any](pod, "volumes") {
			require.NotContains(t, volume, "hostPath", name)
		}
		containers := append(at[[]any](pod, "containers"), at[[]any](pod, "initContainers")...)
		require.NotEmpty(t, containers)
		for _, c := range containers {
			context := at[map[string]any](c.(map[string]any), "securityContext")
			require.Equal(t, false, context["allowPrivilegeEscalation"], name)
			require.Equal(t, true, context["readOnlyRootFilesystem"], name)
			require.Equal(t, []any{"ALL"}, at[[]any](context, "capabilities", "drop"), name)
			require.NotEmpty(t, at[string](c.(map[string]any), "resources", "limits", "memory"), name)
			for _, mount := range at[[]any](c.(map[string]any), "volumeMounts") {
				require.NotContains(t, mount, "subPath", "a file that is mounted by subPath never changes")
			}
		}
	}
}

// podsOf returns the specs of the Pods that the objects make, by kind and name.
func podsOf(objects []manifest) map[string]map[string]any {
	pods := map[string]map[string]any{}
	for _, o := range objects {
		path := map[string][]string{"Pod": {"spec"}, "StatefulSet": {"spec", "template", "spec"}, "Deployment": {"spec", "template", "spec"},
			"CronJob": {"spec", "jobTemplate", "spec", "template", "spec"}}[o.kind()]
		if path != nil {
			pods[o.kind()+"/"+o.name()] = at[map[string]any](o, path...)
		}
	}
	return pods
}

// TestChartNotes checks what a person reads after the installation.
func TestChartNotes(t *testing.T) {
	needChart(t)
	for name, want := range map[string][]string{
		"insecure":      {"Warning: Anyone who can reach the server", "Warning: The state is gone with the Pod", "curl http://localhost:8080/webhook/status"},
		"tokens":        {"port-forward service/kubeagents 8080:8080", "/kubeagents token -scopes", "Warning: Tokens are sent without encryption", "There are no backups"},
		"tls":           {"https://hub.example.com/", "The chart makes no Ingress"},
		"ingress":       {"https://example.com/kubeagents/"},
		"gateway":       {"https://hub.example.com/", "does not seem to have the Gateway API", "set settings.TRUSTED_PROXIES"},
		"monitoring":    {"does not seem to have the Prometheus operator"},
		"backup":        {"create job --from=cronjob/kubeagents-backup"},
		"watcher":       {"label job NAME kubeagents.dev/agent="},
		"everything":    {"blocks the drain of a node"},
		"cluster":       {"with 3 servers that share the stream KUBEAGENTS."},
		"cluster-mtls":  {"Warning: Nobody checks whether NATS syncs every write"},
		"cluster-creds": {"Warning: One NATS node keeps the stream"},
	} {
		out, errs, ok := runTool(t, helm(), "install", "kubeagents", chartDir, "--namespace", "kubeagents", "--dry-run=client", "--values", valueSets(t)[name])
		require.True(t, ok, errs)
		_, notes, ok := strings.Cut(out, "NOTES:")
		require.True(t, ok, out)
		for _, text := range want {
			require.Contains(t, notes, text, name)
		}
		require.NotContains(t, notes, "\n\n\n", name)
		if name == "cluster" {
			require.NotContains(t, notes, "NATS", "nothing is wrong with it")
		}
	}
	out, errs, ok := runTool(t, helm(), "install", "kubeagents", chartDir, "--namespace", "kubeagents", "--dry-run=client", "--values", valueSets(t)["cluster"],
		"--set", "nats.user.name=,nats.user.existingSecret=,podDisruptionBudget.maxUnavailable=null,podDisruptionBudget.minAvailable=3")
	require.True(t, ok, errs)
	require.Contains(t, out, "Warning: Anyone who can reach NATS can read and delete the state")
	require.Contains(t, out, "blocks the drain of a node")
}
