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
		if !ok {
			meant, ok = abbreviated(variable, names)
		}
		if ok {
			warnings = append(warnings, fmt.Sprintf("%s is not a setting and has no effect: did you mean %s?", variable, meant))
		}
	}
	return warnings
}

// abbreviated returns the settings that have all words of a variable, in their order, as in TLS_CERT or CORS_ORIGINS.
// ok is false if there is none, or if the variable has a single word.
func abbreviated(variable string, names []string) (meant string, ok bool) {
	words := strings.Split(variable, "_")
	if len(words) < 2 {
		return "", false
	}
	var some []string
	for _, name := range names {
		left := words
		for i, word := range strings.Split(name, "_") {
			switch {
			case len(left) > 0 && word == left[0]:
				left = left[1:]
			case i == 0:
				left = []string{""} // the first words differ
			}
		}
		if len(left) == 0 {
			some = append(some, name)
		}
	}
	return strings.Join(some, " or "), len(some) > 0
}
