//go:build unix

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// clusterPrelude defines the commands of docs/kubernetes.md that need a cluster or a registry. helm only renders, into
// rendered-1.yaml, rendered-2.yaml and so on. kubectl notes in the file secrets which Secrets it would make, as
// "namespace/name key", and checks that the files exist that it would read.
const clusterPrelude = `
rendered=0
kubeagents() { "$PROGRAM" "$@"; }
make() { :; }
skopeo() { :; }
kind() { :; }
curl() { echo lines; }
helm() {
	local args=() argument
	# Where a storage class binds volumes on first use, Helm would wait for the first backup.
	[[ $* != *--install*--wait* ]] || { echo 'the first install must not wait' >&2; return 1; }
	for argument; do [[ $argument == --install || $argument == --wait ]] || args+=("$argument"); done
	case $1 in
	upgrade) args[0]=template; rendered=$((rendered + 1)); "$HELM" "${args[@]}" >"rendered-$rendered.yaml" ;;
	test) [[ $* == 'test kubeagents --namespace kubeagents'* ]] ;;
	*) return 1 ;;
	esac
}
kubectl() {
	local namespace=default name= previous= argument file
	[[ $1 != -n ]] || { namespace=$2; shift 2; }
	[[ $1 != create || $2 != secret ]] || { [[ $3 == generic ]]; name=$4; }
	for argument; do
		file=
		case $argument in --from-file=*) file=${argument##*=} ;; esac
		case $previous in -f | -k) file=$argument ;; esac
		previous=$argument
		if [[ $file == /dev/stdin ]]; then
			file=$(mktemp)
			cat >"$file"
			[[ -s $file ]]
			[[ -z $name || $(tail -c 1 "$file" | od -An -c) != *'\n'* ]] # a newline would be part of the token
		fi
		[[ -z $file || $file == - || -e $file ]] || { echo "kubectl $*: $file does not exist" >&2; return 1; }
		[[ -z $name || $argument != --from-* ]] || {
			argument=${argument#--from-*=}
			echo "$namespace/$name ${argument%%=*}" >>secrets
		}
	done
}
`

// TestKubernetesPage runs the commands of docs/kubernetes.md in order, without a cluster. What Helm would install must
// refer only to Secrets that the page has made by then.
func TestKubernetesPage(t *testing.T) {
	needChart(t)
	requireTools(t, "bash", "od")
	dir := t.TempDir()
	deploy, err := filepath.Abs(filepath.Join(root, "deploy"))
	require.NoError(t, err)
	require.NoError(t, os.Symlink(deploy, filepath.Join(dir, "deploy")))
	script := clusterPrelude
	for _, b := range blocksOf(manual(t)["docs/kubernetes.md"]) {
		switch {
		case b.language == "sh":
			script += b.code
		case b.language == "yaml" && strings.Contains(b.code, "serviceMonitor:"):
			script += "cat >monitoring.yaml <<'END'\n" + b.code + "END\n" +
				"helm upgrade kubeagents deploy/chart --namespace kubeagents --values values.yaml --values monitoring.yaml\n"
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PROGRAM="+program(), "HELM="+helm())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	text, err := os.ReadFile(filepath.Join(dir, "secrets")) //nolint:gosec // a test file
	require.NoError(t, err)
	made := strings.Split(strings.TrimSpace(string(text)), "\n")
	require.Contains(t, made, "data/kubeagents-token token")
	kinds := map[int][]string{
		1:  {"StatefulSet kubeagents", "Ingress kubeagents", "CronJob kubeagents-backup", "Deployment kubeagents-watcher", "ConfigMap kubeagents-connect", "ConfigMap kubeagents-notify"},
		2:  {"StatefulSet kubeagents", "ServiceMonitor kubeagents", "PrometheusRule kubeagents"}, // with monitoring
		3:  {"StatefulSet kubeagents"},                                                           // an upgrade
		4:  {"StatefulSet kubeagents"},                                                           // a larger volume
		5:  {"StatefulSet kubeagents"},                                                           // a restore
		7:  {"StatefulSet kubeagents"},                                                           // one server with NATS
		8:  {"StatefulSet kubeagents", "PodDisruptionBudget kubeagents"},                         // three servers
		9:  {"StatefulSet kubeagents"},                                                           // the first of them
		10: {"StatefulSet kubeagents"},                                                           // without NATS
	}
	for number, want := range kinds {
		objects := readObjects(t, filepath.Join(dir, fmt.Sprintf("rendered-%d.yaml", number)))
		require.Subset(t, slices.Collect(maps.Keys(objects)), want)
		for name, object := range objects {
			if !strings.HasPrefix(name, "Ingress ") { // its certificate is the controller's matter
				requireSecrets(t, object, made, name)
			}
		}
	}
	restored, err := os.ReadFile(filepath.Join(dir, "rendered-5.yaml")) //nolint:gosec // a test file
	require.NoError(t, err)
	require.Contains(t, string(restored), "20260102T030405Z")
	nats := readObjects(t, filepath.Join(dir, "rendered-6.yaml"))
	requireSecrets(t, nats["StatefulSet nats"], made, "the chart of NATS")
	for number, want := range map[int]string{5: "1 false", 7: "1 true", 8: "3 true", 9: "1 true", 10: "1 false"} {
		text := readFile(t, filepath.Join(dir, fmt.Sprintf("rendered-%d.yaml", number)))
		set := find(t, objectsIn(t, text), "StatefulSet", "kubeagents")
		require.Equal(t, want, fmt.Sprint(at[uint64](set, "spec", "replicas"), strings.Contains(text, "NATS_URL")), number)
	}
	addresses := regexp.MustCompile(`(?:nats|http)://([^:]+):\d+`).FindAllStringSubmatch(readFile(t, filepath.Join(dir, "rendered-8.yaml")), -1)
	require.NotEmpty(t, addresses)
	for _, address := range addresses {
		pod, service, found := strings.Cut(address[1], ".")
		if found && strings.HasPrefix(pod, "nats-") {
			require.Contains(t, nats, "Service "+service, "the names by which the servers reach NATS")
		}
	}
	require.NoFileExists(t, filepath.Join(dir, "rendered-11.yaml"))

	page := readFile(t, filepath.Join(root, "docs/kubernetes.md"))
	for number := range kinds {
		images := imageField.FindAllStringSubmatch(string(readFile(t, filepath.Join(dir, fmt.Sprintf("rendered-%d.yaml", number)))), -1)
		require.NotEmpty(t, images)
		for _, image := range images {
			require.Contains(t, string(page), "docker://"+image[1]+"\n", "the page pushes each image that the chart pulls")
		}
	}
}

// imageField finds the images in rendered objects.
var imageField = regexp.MustCompile(`(?m)^ *(?:- )?image: "?([^"\s]+)"?$`)

// readObjects returns the objects in a file by their kind and name.
func readObjects(t *testing.T, path string) map[string]map[string]any {
	t.Helper()
	objects := map[string]map[string]any{}
	for _, object := range objectsIn(t, readFile(t, path)) {
		objects[object.kind()+" "+object.name()] = object
	}
	return objects
}

// requireSecrets fails the test if an object refers to a Secret, or to a key of one, that is not among those made in the
// namespace kubeagents.
func requireSecrets(t *testing.T, node any, made []string, object string) {
	t.Helper()
	switch node := node.(type) {
	case map[string]any:
		for name, child := range node {
			requireSecrets(t, child, made, object)
			refers, _ := child.(map[string]any)
			if refers == nil || refers["optional"] == true {
				continue
			}
			switch name {
			case "secretKeyRef", "credentials":
				require.Contains(t, made, fmt.Sprintf("kubeagents/%s %s", refers["name"], refers["key"]), object)
			case "secretRef":
				require.Contains(t, strings.Join(made, "\n"), fmt.Sprintf("kubeagents/%s ", refers["name"]), object)
			case "secret":
				require.Contains(t, strings.Join(made, "\n"), fmt.Sprintf("kubeagents/%s ", refers["secretName"]), object)
			}
		}
	case []any:
		for _, child := range node {
			requireSecrets(t, child, made, object)
		}
	}
}
