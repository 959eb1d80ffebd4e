package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kubeagents/kubeagents/internal/nearest"
)

// shortest is how long the name of a setting must be for variables to be compared with it: names such as PORT and HOST are near to
// variables of other programs.
const shortest = 7

// prefix is what people put before settings, as other programs want it. Kubernetes sets KUBEAGENTS_PORT and the like itself.
const prefix = "KUBEAGENTS_"

// Misspellings returns a warning for each variable that is probably a setting with a wrong name.
func Misspellings(environment map[string]string) (warnings []string) {
	var names []string
	for field := range reflect.TypeFor[Config]().Fields() {
		if name := field.Tag.Get("env"); len(name) >= shortest {
			names = append(names, name)
		}
	}
	for _, variable := range slices.Sorted(maps.Keys(environment)) {
		if slices.Contains(names, variable) {
			continue
		}
		meant, ok := strings.CutPrefix(variable, prefix)
		if ok = ok && slices.Contains(names, meant); !ok {
			meant, ok = nearest.To(variable, names)
		}
		if ok {
			warnings = append(warnings, fmt.Sprintf("%s is not a setting and has no effect: did you mean %s?", variable, meant))
		}
	}
	return warnings
}
