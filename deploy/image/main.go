// Image writes the container image of one of our programs as an OCI layout, without a container engine and without a
// registry. It contains the program and the certificates of public authorities, and nothing else: no shell and no
// package manager.
//
//	image -program kubeagents -out DIR -version v1.2.3 -commit 0123abcd -created 2026-01-02T03:04:05Z -certs FILE amd64=FILE arm64=FILE
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is the ID of the user and of the group that the program runs as. Images without a shell usually take this one.
const user = 65532

// release is what an image is made of.
type release struct {
	program
	version, commit string
	created         time.Time // also the time of all files, so that the same release gives the same image
	certs           []byte    // certificates of authorities, in PEM
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err) //nolint:errcheck // there is nowhere else to report it
		os.Exit(1)
	}
}

func run(args []string) error {
	var r release
	flags := flag.NewFlagSet("image", flag.ExitOnError)
	name := flags.String("program", "kubeagents", "the program: "+strings.Join(names(), " or "))
	out := flags.String("out", "", "the directory to write, which is replaced")
	certs := flags.String("certs", "/etc/ssl/certs/ca-certificates.crt", "the file of authorities' certificates")
	created := flags.String("created", "", "the time of the commit, as in RFC 3339")
	flags.StringVar(&r.version, "version", "", "the version of the program")
	flags.StringVar(&r.commit, "commit", "", "the commit that the program was built from")
	flags.Parse(args) //nolint:errcheck // it exits
	if *out == "" || r.version == "" || flags.NArg() == 0 {
		return errors.New("-out, -version and an argument such as amd64=bin/kubeagents are needed")
	}
	i := slices.Index(names(), *name)
	if i < 0 {
		return fmt.Errorf("unknown program %q: the programs are %s", *name, strings.Join(names(), " and "))
	}
	r.program = programs[i]
	var err error
	if r.created, err = time.Parse(time.RFC3339, *created); err != nil {
		return err
	}
	if r.certs, err = os.ReadFile(*certs); err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arg := range flags.Args() {
		arch, path, _ := strings.Cut(arg, "=")
		binary, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		image, err := r.image(arch, binary)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := os.RemoveAll(*out); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	written, err := layout.Write(*out, empty.Index)
	if err != nil {
		return err
	}
	return written.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.version}))
}

// image returns the image for an architecture.
func (r release) image(arch string, binary []byte) (v1.Image, error) {
	certs, err := r.layer([]file{{name: "etc/"}, {name: "etc/ssl/"}, {name: "etc/ssl/certs/"},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: r.certs}})
	if err != nil {
		return nil, err
	}
	files, err := r.layer(append(r.directories, file{name: r.name, mode: 0o755, content: binary}))
	if err != nil {
		return nil, err
	}
	base, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: v1.Time{Time: r.created}, RootFS: v1.RootFS{Type: "layers"}, Config: r.config(),
	})
	if err != nil {
		return nil, err
	}
	history := v1.History{Created: v1.Time{Time: r.created}, CreatedBy: "deploy/image"}
	return mutate.Append(base, mutate.Addendum{Layer: certs, History: history}, mutate.Addendum{Layer: files, History: history})
}

// config says how to run the image.
func (r release) config() v1.Config {
	config := r.program.config
	config.Entrypoint = []string{"/" + r.name}
	config.User = fmt.Sprintf("%d:%d", user, user)
	config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	config.StopSignal = "SIGTERM"
	config.Labels = map[string]string{
		"org.opencontainers.image.title":         r.title,
		"org.opencontainers.image.description":   r.description,
		"org.opencontainers.image.url":           repository,
		"org.opencontainers.image.source":        repository,
		"org.opencontainers.image.documentation": repository + "/blob/main/docs/" + r.page,
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.version":       r.version,
		"org.opencontainers.image.revision":      r.commit,
		"org.opencontainers.image.created":       r.created.UTC().Format(time.RFC3339),
	}
	return config
}

// file is a file in a layer, or a directory if its name ends with a slash.
type file struct {
	name    string
	mode    int64 // 0 for a directory that everybody may read
	owner   int
	content []byte
}

// layer returns a compressed layer with these files.
func (r release) layer(files []file) (v1.Layer, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: f.mode, Uid: f.owner, Gid: f.owner, Size: int64(len(f.content)), ModTime: r.created}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if header.Mode == 0 {
			header.Mode = 0o755
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(9), tarball.WithCompressedCaching)
}
