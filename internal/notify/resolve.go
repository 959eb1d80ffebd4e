package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// maxResolved is the maximum length of a text whose references are replaced, in bytes.
const maxResolved = 4096

// fileReference begins a reference to a file.
const fileReference = "file:"

// resolve replaces the references in all texts within v.
func (p *fileParser) resolve(v *value) {
	for i := range v.items {
		p.resolve(&v.items[i])
	}
	for i := range v.entries {
		p.resolve(&v.entries[i].value)
	}
	if v.kind != text || !strings.Contains(v.text, "${") {
		return
	}
	resolved, err := p.resolved(v.text)
	if err != nil {
		p.add(v.line, "%v", err)
		v.kind = unresolved
	}
	v.text = resolved
}

// resolved returns a text with what its references stand for. That is not searched for references again.
func (p *fileParser) resolved(text string) (string, error) {
	var resolved strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		resolved.WriteString(before)
		if resolved.Len() > maxResolved {
			return "", fmt.Errorf("a text must have at most %d bytes once its references are replaced", maxResolved)
		}
		if !found {
			return resolved.String(), nil
		}
		reference, rest, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errReference
		}
		content, err := p.content(reference)
		if err != nil {
			return "", err
		}
		resolved.WriteString(content)
		text = rest
	}
}

var errReference = errors.New("a reference must be ${NAME}, for an environment variable, or ${file:/path}, for a file")

var (
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

	// These match the references that an error may repeat, because no secret looks like one.
	variableShown = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,49}$`)
	fileShown     = regexp.MustCompile(`^(/|[A-Z]:\\)[A-Za-z0-9._/\\-]{1,200}$`)
)

// content returns what a reference stands for. The error leaves out what lookup says, as it may contain a secret.
func (p *fileParser) content(reference string) (string, error) {
	path, isFile := strings.CutPrefix(reference, fileReference)
	var what string
	switch {
	case isFile && !filepath.IsAbs(path), !isFile && !variable.MatchString(reference):
		return "", errReference
	case isFile:
		what = "the file" + shown(path, fileShown)
	default:
		what = "the environment variable" + shown(reference, variableShown)
	}
	content, err := p.lookup(reference)
	switch {
	case err != nil && !isFile:
		return "", fmt.Errorf("%s is not set", what)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s does not exist", what)
	case err != nil:
		return "", fmt.Errorf("%s can't be read", what)
	case content == "":
		return "", fmt.Errorf("%s is empty", what)
	}
	return content, nil
}

// shown returns name after a space if it matches safe, and "" otherwise.
func shown(name string, safe *regexp.Regexp) string {
	if !safe.MatchString(name) {
		return ""
	}
	return " " + name
}
