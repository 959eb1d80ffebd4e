//go:build unix

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// The part of Kubernetes' API that the examples in deploy/examples use. An example that uses more fails to decode.
// See https://kubernetes.io/docs/reference/kubernetes-api/.
type (
	kubeObject struct {
		APIVersion string            `yaml:"apiVersion"`
		Kind       string            `yaml:"kind"`
		Metadata   kubeMetadata      `yaml:"metadata"`
		Data       map[string]string `yaml:"data"` // of a ConfigMap
		Spec       kubeJob           `yaml:"spec"` // of a Job
	}
	kubeMetadata struct {
		Name      string            `yaml:"name"`
		Namespace string            `yaml:"namespace"`
		Labels    map[string]string `yaml:"labels"`
	}
	kubeJob struct {
		BackoffLimit          *int `yaml:"backoffLimit"`
		ActiveDeadlineSeconds int  `yaml:"activeDeadlineSeconds"`
		TTLSeconds            int  `yaml:"ttlSecondsAfterFinished"`
		Template              struct {
			Metadata kubeMetadata `yaml:"metadata"`
			Spec     kubePod      `yaml:"spec"`
		} `yaml:"template"`
	}
	kubePod struct {
		RestartPolicy                string          `yaml:"restartPolicy"`
		AutomountServiceAccountToken *bool           `yaml:"automountServiceAccountToken"`
		EnableServiceLinks           *bool           `yaml:"enableServiceLinks"`
		SecurityContext              kubePodSecurity `yaml:"securityContext"`
		Containers                   []kubeContainer `yaml:"containers"`
		Volumes                      []kubeVolume    `yaml:"volumes"`
	}
	kubePodSecurity struct {
		RunAsNonRoot   bool `yaml:"runAsNonRoot"`
		RunAsUser      int  `yaml:"runAsUser"`
		RunAsGroup     int  `yaml:"runAsGroup"`
		FSGroup        int  `yaml:"fsGroup"`
		SeccompProfile struct {
			Type string `yaml:"type"`
		} `yaml:"seccompProfile"`
	}
	kubeContainer struct {
		Name       string    `yaml:"name"`
		Image      string    `yaml:"image"`
		Command    []string  `yaml:"command"`
		WorkingDir string    `yaml:"workingDir"`
		Env        []kubeEnv `yaml:"env"`
		Resources  struct {
			Requests, Limits map[string]string
		} `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string `yaml:"name"`
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	kubeEnv struct {
		Name      string `yaml:"name"`
		Value     string `yaml:"value"`
		ValueFrom struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
			SecretKeyRef    kubeKey `yaml:"secretKeyRef"`
			ConfigMapKeyRef kubeKey `yaml:"configMapKeyRef"`
		} `yaml:"valueFrom"`
	}
	kubeKey struct {
		Name string `yaml:"name"`
		Key  string `yaml:"key"`
	}
	kubeVolume struct {
		Name      string    `yaml:"name"`
		EmptyDir  *struct{} `yaml:"emptyDir"`
		ConfigMap *struct {
			Name  string `yaml:"name"`
			Items []struct {
				Key  string `yaml:"key"`
				Path string `yaml:"path"`
			} `yaml:"items"`
		} `yaml:"configMap"`
	}
)

// readExample decodes a file of deploy/examples: a Job, and perhaps ConfigMaps that it uses.
func readExample(t *testing.T, name string) (job kubeObject, configMaps []kubeObject) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/examples", name))
	require.NoError(t, err)
	for documents := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()); ; {
		var object kubeObject
		err := documents.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, name)
		switch object.APIVersion + " " + object.Kind {
		case "batch/v1 Job":
			require.Empty(t, job.Kind, "%s has two Jobs", name)
			job = object
		case "v1 ConfigMap":
			configMaps = append(configMaps, object)
		default:
			require.Fail(t, "this test does not support the kind", object.Kind)
		}
	}
	require.NotEmpty(t, job.Kind)
	return job, configMaps
}

// pod runs the container of a Pod as a kubelet and its container runtime do: with the variables and the volumes of the
// Pod, as its user, without capabilities, and with its root file system, which is read-only.
type pod struct {
	t           *testing.T
	name        string
	metadata    kubeMetadata // of the Pod's template
	spec        kubePod
	container   kubeContainer
	configMaps  map[string]map[string]string // data by name
	secrets     map[string]map[string]string
	environment map[string]string // replaces or adds variables
	image       string            // directory that is /usr/local in the image, "" for an empty one
	mounts      [][2]string       // directories of this machine in the image, and their paths there
	dir         string
}

// newPod returns a Pod of a Job, with the objects that its namespace has.
func newPod(t *testing.T, name string, job kubeObject, configMaps, secrets map[string]map[string]string) *pod {
	t.Helper()
	template := job.Spec.Template
	require.Len(t, template.Spec.Containers, 1)
	metadata := template.Metadata
	metadata.Namespace = job.Metadata.Namespace
	p := &pod{t: t, name: name, metadata: metadata, spec: template.Spec, container: template.Spec.Containers[0],
		configMaps: configMaps, secrets: secrets, environment: map[string]string{}, dir: t.TempDir()}
	for _, v := range p.spec.Volumes {
		p.makeVolume(v)
	}
	return p
}

// volume returns the directory of this machine that is a volume of the Pod.
func (p *pod) volume(name string) string { return filepath.Join(p.dir, "volumes", name) }

// makeVolume makes a volume with the owners and modes that a kubelet gives it.
func (p *pod) makeVolume(v kubeVolume) {
	p.t.Helper()
	dir := p.volume(v.Name)
	require.NoError(p.t, os.MkdirAll(dir, 0o755)) //nolint:gosec // as a kubelet does
	files := map[string]string{}
	switch {
	case v.EmptyDir != nil:
		require.NoError(p.t, os.Chown(dir, 0, p.spec.SecurityContext.FSGroup))
		require.NoError(p.t, os.Chmod(dir, 0o777|os.ModeSetgid)) //nolint:gosec // as a kubelet does
	case v.ConfigMap != nil:
		data := p.configMaps[v.ConfigMap.Name]
		require.NotNil(p.t, data, "the ConfigMap %s", v.ConfigMap.Name)
		for _, item := range v.ConfigMap.Items {
			require.Contains(p.t, data, item.Key, v.ConfigMap.Name)
			files[item.Path] = data[item.Key]
		}
		if v.ConfigMap.Items == nil {
			files = data
		}
	default:
		require.Fail(p.t, "this test does not support the kind of volume", v.Name)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(p.t, os.WriteFile(path, []byte(text), 0o644)) //nolint:gosec // as a kubelet does
	}
}

var reference = regexp.MustCompile(`\$\$|\$\([A-Za-z_][A-Za-z0-9_.-]*\)`)

// expand replaces $(NAME) in a value of the container by the variable of that name, as a kubelet does.
func expand(text string, variables map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$$" {
			return "$"
		}
		if value, ok := variables[found[2:len(found)-1]]; ok {
			return value
		}
		return found
	})
}

// variables returns the environment of the container.
func (p *pod) variables() map[string]string {
	p.t.Helper()
	variables := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": p.name}
	for _, e := range p.container.Env {
		from := e.ValueFrom
		switch {
		case from.FieldRef.FieldPath != "":
			variables[e.Name] = p.field(from.FieldRef.FieldPath)
		case from.SecretKeyRef.Name != "":
			require.Contains(p.t, p.secrets[from.SecretKeyRef.Name], from.SecretKeyRef.Key, "the Secret %s", from.SecretKeyRef.Name)
			variables[e.Name] = p.secrets[from.SecretKeyRef.Name][from.SecretKeyRef.Key]
		case from.ConfigMapKeyRef.Name != "":
			require.Contains(p.t, p.configMaps[from.ConfigMapKeyRef.Name], from.ConfigMapKeyRef.Key, "the ConfigMap %s", from.ConfigMapKeyRef.Name)
			variables[e.Name] = p.configMaps[from.ConfigMapKeyRef.Name][from.ConfigMapKeyRef.Key]
		default:
			variables[e.Name] = expand(e.Value, variables)
		}
		if value, replaced := p.environment[e.Name]; replaced {
			variables[e.Name] = value
		}
	}
	for name, value := range p.environment {
		variables[name] = value
	}
	return variables
}

// field returns a field of the Pod, as the downward API does.
func (p *pod) field(name string) string {
	p.t.Helper()
	switch name {
	case "metadata.name":
		return p.name
	case "metadata.namespace":
		return p.metadata.Namespace
	}
	label := strings.TrimSuffix(strings.TrimPrefix(name, "metadata.labels['"), "']")
	require.Contains(p.t, p.metadata.Labels, label, "the field %s", name)
	return p.metadata.Labels[label]
}

// unpack is the script that makes the root file system of the container. The rest of the script mounts the volumes.
const unpack = `
set -eu
mount -t tmpfs -o mode=0755 root "$1"
cd "$1"
mkdir usr etc proc dev
mount --bind /usr usr
for folder in bin sbin lib lib64; do
	if [ -L /$folder ]; then cp -P /$folder .; elif [ -d /$folder ]; then mkdir $folder; mount --bind /$folder $folder; fi
done
mount --bind "$2" usr/local
mount -o remount,bind,ro usr
cp /etc/hosts etc
for name in ld.so.cache ssl alternatives; do [ ! -e /etc/$name ] || cp -R /etc/$name etc; done
printf 'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n' >etc/passwd
mount -t proc proc proc
mount --rbind /dev dev
echo "$3" >/proc/sys/kernel/hostname
`

// quote quotes a text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// script returns the script that makes the container and then becomes its command.
func (p *pod) script() string {
	var b strings.Builder
	b.WriteString(unpack)
	mount := func(from, to string, readOnly bool) {
		to = quote("." + path.Clean(to))
		fmt.Fprintf(&b, "mkdir -p %s\nmount --bind %s %s\n", to, quote(from), to)
		if readOnly {
			fmt.Fprintf(&b, "mount -o remount,bind,ro %s\n", to)
		}
	}
	for _, m := range p.mounts {
		mount(m[0], m[1], true)
	}
	for _, m := range p.container.VolumeMounts {
		mount(p.volume(m.Name), m.MountPath, m.ReadOnly)
	}
	if p.container.SecurityContext.ReadOnlyRootFilesystem {
		b.WriteString("mount -o remount,bind,ro usr/local\nmount -o remount,ro .\n")
	}
	s := p.spec.SecurityContext
	fmt.Fprintf(&b, "exec chroot . setpriv --reuid %d --regid %d --groups %d --no-new-privs --bounding-set=-all --inh-caps=-all env -i -C %s",
		s.RunAsUser, s.RunAsGroup, s.FSGroup, quote(p.container.WorkingDir))
	variables := p.variables()
	for name, value := range variables {
		b.WriteString(" " + quote(name+"="+value))
	}
	for _, argument := range p.container.Command {
		b.WriteString(" " + quote(expand(argument, variables)))
	}
	return b.String()
}

// start starts the container. It ends with the test.
func (p *pod) start() *container {
	p.t.Helper()
	rootDir, image := filepath.Join(p.dir, "root"), p.image
	if image == "" {
		image = filepath.Join(p.dir, "image")
	}
	require.NoError(p.t, os.MkdirAll(rootDir, 0o755)) //nolint:gosec // the container's user reads it
	require.NoError(p.t, os.MkdirAll(image, 0o755))   //nolint:gosec // as above
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	p.t.Cleanup(cancel)
	// The mounts are gone with the last process of their namespace.
	//nolint:gosec // the script is this test's
	c := &container{t: p.t, cmd: exec.CommandContext(ctx, "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "sh", "-c", p.script(), "sh", rootDir, image, p.name)}
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	c.cmd.WaitDelay = time.Second
	require.NoError(p.t, c.cmd.Start())
	return c
}

// run runs the container to its end, and returns its output and its exit status.
func (p *pod) run() (output string, status int) {
	p.t.Helper()
	return p.start().wait()
}

// container is a container that runs, or has run.
type container struct {
	t      *testing.T
	cmd    *exec.Cmd
	output bytes.Buffer // complete after wait
}

// wait waits for the end of the container, and returns its output and its exit status.
func (c *container) wait() (output string, status int) {
	c.t.Helper()
	err := c.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(c.t, err, "%s", &c.output)
	}
	return c.output.String(), c.cmd.ProcessState.ExitCode()
}

// pid returns the process of the container that gets the signals of the kubelet.
func (c *container) pid() int {
	c.t.Helper()
	unshare := c.cmd.Process.Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", unshare, unshare))
	require.NoError(c.t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(c.t, err)
	return pid
}
