package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kubeagents/kubeagents/internal/nearest"
)

// minNameLength is the length that a setting's name must have for variables to be compared with it. Shorter names, such
// as PORT and HOST, are too similar to variables of other programs.
const minNameLength = 7

// prefix is often put before settings by mistake, because other programs require such a prefix. Kubernetes itself sets
// KUBEAGENTS_PORT and similar variables.
const prefix = "KUBEAGENTS_"

// Misspellings returns a warning for each variable that is probably a misspelt setting.
func Misspellings(environment map[string]string) (warnings []string) {
	var names []string
	for field := range reflect.TypeFor[Config]().Fields() {
		if name := field.Tag.Get("env"); len(name) >= minNameLength {
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
