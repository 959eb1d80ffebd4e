// Kubeschema writes the JSON schemas by which the tests check the chart's objects, with kubeconform. It reads the
// OpenAPI description of a version of Kubernetes, and custom resource definitions:
//
//	kubeschema -out DIR swagger.json crd.yaml...
//
// The schemas are strict: a field that Kubernetes does not know fails. Only the kinds of the chart are written.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// kinds maps the definitions of the kinds that the chart uses to the names of their files, as kubeconform looks for them.
var kinds = map[string]string{
	"io.k8s.api.apps.v1.Deployment":            "deployment-apps-v1",
	"io.k8s.api.apps.v1.StatefulSet":           "statefulset-apps-v1",
	"io.k8s.api.batch.v1.CronJob":              "cronjob-batch-v1",
	"io.k8s.api.batch.v1.Job":                  "job-batch-v1",
	"io.k8s.api.core.v1.ConfigMap":             "configmap-v1",
	"io.k8s.api.core.v1.PersistentVolumeClaim": "persistentvolumeclaim-v1",
	"io.k8s.api.core.v1.Pod":                   "pod-v1",
	"io.k8s.api.core.v1.Secret":                "secret-v1",
	"io.k8s.api.core.v1.Service":               "service-v1",
	"io.k8s.api.core.v1.ServiceAccount":        "serviceaccount-v1",
	"io.k8s.api.networking.v1.Ingress":         "ingress-networking-v1",
	"io.k8s.api.networking.v1.NetworkPolicy":   "networkpolicy-networking-v1",
	"io.k8s.api.policy.v1.PodDisruptionBudget": "poddisruptionbudget-policy-v1",
	"io.k8s.api.rbac.v1.ClusterRole":           "clusterrole-rbac-v1",
	"io.k8s.api.rbac.v1.ClusterRoleBinding":    "clusterrolebinding-rbac-v1",
	"io.k8s.api.rbac.v1.Role":                  "role-rbac-v1",
	"io.k8s.api.rbac.v1.RoleBinding":           "rolebinding-rbac-v1",
}

const prefix = "#/definitions/"

func main() {
	out := flag.String("out", "", "the directory to write to")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "kubeschema: %v\n", err) //nolint:errcheck // there is nowhere else to report it
		os.Exit(1)
	}
}

func run(out string, inputs []string) error {
	if out == "" || len(inputs) == 0 {
		return errors.New("-out and a file are needed")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, input := range inputs {
		text, err := os.ReadFile(input)
		if err != nil {
			return err
		}
		write := writeDefinition
		if strings.HasSuffix(input, ".json") {
			write = writeKinds
		}
		if err := write(out, text); err != nil {
			return fmt.Errorf("%s: %w", input, err)
		}
	}
	return nil
}

// writeKinds writes the schemas of the chart's kinds from a description of Kubernetes' API. Each has the definitions
// that it refers to.
func writeKinds(out string, text []byte) error {
	var api struct{ Definitions map[string]map[string]any }
	if err := json.Unmarshal(text, &api); err != nil {
		return err
	}
	for kind, name := range kinds {
		used := map[string]any{}
		if err := collect(api.Definitions, kind, used); err != nil {
			return err
		}
		if err := writeSchema(out, name, map[string]any{"$ref": prefix + kind, "definitions": used}); err != nil {
			return err
		}
	}
	return nil
}

// collect adds a definition, and those that it refers to, to used.
func collect(definitions map[string]map[string]any, name string, used map[string]any) error {
	if used[name] != nil {
		return nil
	}
	definition, ok := definitions[name]
	if !ok {
		return fmt.Errorf("there is no definition of %s", name)
	}
	switch name {
	case "io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity":
		definition = map[string]any{"type": []string{"string", "number"}}
	}
	definition = strict(definition, true)
	used[name] = definition
	for _, reference := range references(definition) {
		if err := collect(definitions, reference, used); err != nil {
			return err
		}
	}
	return nil
}

// references returns the names of the definitions that a schema refers to.
func references(value any) (names []string) {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			if reference, ok := member.(string); ok && key == "$ref" {
				names = append(names, strings.TrimPrefix(reference, prefix))
			}
			names = append(names, references(member)...)
		}
	case []any:
		for _, member := range value {
			names = append(names, references(member)...)
		}
	}
	return names
}

// strict returns a schema without descriptions and other text that validates nothing, in which objects have no further
// properties. The schema is not that of a property called "description" if schema is false.
func strict(value map[string]any, schema bool) map[string]any {
	result := map[string]any{}
	for key, member := range value {
		if schema && (key == "description" || key == "title" || key == "format" || key == "default" || strings.HasPrefix(key, "x-kubernetes-")) {
			continue
		}
		if inner, ok := member.(map[string]any); ok {
			member = strict(inner, !(schema && key == "properties"))
		}
		if list, ok := member.([]any); ok {
			copied := make([]any, len(list))
			for i, item := range list {
				if copied[i] = item; schema {
					if inner, ok := item.(map[string]any); ok {
						copied[i] = strict(inner, true)
					}
				}
			}
			member = copied
		}
		result[key] = member
	}
	if _, open := value["additionalProperties"]; schema && value["properties"] != nil && !open {
		result["additionalProperties"] = false
	}
	return result
}

// writeDefinition writes the schema of the served version v1 of a custom resource definition.
func writeDefinition(out string, text []byte) error {
	var definition struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		return err
	}
	for _, version := range definition.Spec.Versions {
		if version.Name != "v1" {
			continue
		}
		schema := strict(version.Schema.OpenAPIV3Schema, true)
		schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
		group, _, _ := strings.Cut(definition.Spec.Group, ".")
		return writeSchema(out, strings.ToLower(definition.Spec.Names.Kind)+"-"+group+"-v1", schema)
	}
	return errors.New("there is no version v1")
}

func writeSchema(out, name string, schema map[string]any) error {
	text, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, name+".json"), append(text, '\n'), 0o644)
}
