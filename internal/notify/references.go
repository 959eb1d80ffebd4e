package notify

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxReferenced is the maximum size of a file that a reference names, in bytes.
const maxReferenced = 64 << 10

// Resolve returns the lookup of references that [Parse] uses in a server: NAME is an environment variable, and file:PATH
// is the content of a file, without white space around it.
func Resolve(environment func(name string) (value string, ok bool)) func(reference string) (string, error) {
	return func(reference string) (string, error) {
		path, isFile := strings.CutPrefix(reference, "file:")
		if !isFile {
			value, ok := environment(reference)
			if !ok || value == "" {
				return "", fmt.Errorf("the environment variable %s is not set", reference)
			}
			return value, nil
		}
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return "", fmt.Errorf("%s is not a regular file", path)
		}
		file, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer file.Close() //nolint:errcheck // it was only read
		text, err := io.ReadAll(io.LimitReader(file, maxReferenced+1))
		if err == nil && len(text) > maxReferenced {
			err = fmt.Errorf("%s has more than %d KiB", path, maxReferenced>>10)
		}
		return strings.TrimSpace(string(text)), err
	}
}
