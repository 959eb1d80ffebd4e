package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"k8s.io/apimachinery/pkg/util/validation"
)

// settings are the watcher's settings. The tag env names the environment variable, envDefault is the value that is used
// when the variable is unset or empty, and allowed describes the allowed values in error messages.
type settings struct {
	Server       server        `env:"KUBEAGENTS_SERVER,required" allowed:"the address of the server, such as https://hub.example.com"`
	Token        string        `env:"KUBEAGENTS_TOKEN" allowed:"a token with the scope report, unless KUBEAGENTS_TOKEN_FILE is set; if both are unset, none is sent"`
	TokenFile    string        `env:"KUBEAGENTS_TOKEN_FILE" allowed:"a file with a token, which is read before each request"`
	CAFile       string        `env:"KUBEAGENTS_CA_FILE" allowed:"a file with CA certificates in PEM to trust besides the system's, which is read before each request"`
	Namespaces   namespaces    `env:"NAMESPACES" allowed:"namespaces, separated by commas; if unset, all namespaces"`
	TTL          time.Duration `env:"TTL" envDefault:"30m" allowed:"whole minutes from 3m to 24h, such as 30m"`
	Port         int           `env:"PORT" envDefault:"8080" allowed:"a port from 0 to 65535; 0 takes any that is free"`
	Host         string        `env:"HOST" allowed:"an address of this machine; if unset, all its interfaces"`
	Kubeconfig   string        `env:"KUBECONFIG" allowed:"a kubeconfig file; if unset, the Pod's service account"`
	PodNamespace string        `env:"POD_NAMESPACE" allowed:"the namespace of the Lease that decides which replica reports; if unset, there is no Lease, and only one process may run"`
	PodName      string        `env:"POD_NAME" allowed:"the name of this replica; if unset, the host's name"`
	LogLevel     logLevel      `env:"LOG_LEVEL" envDefault:"info" allowed:"debug, info, warn or error"`
	LogFormat    logFormat     `env:"LOG_FORMAT" envDefault:"text" allowed:"text or json"`
}

// loadSettings reads the settings from the environment. The error has a line for each invalid variable, with its value
// and what is allowed.
func loadSettings(environment map[string]string) (settings, error) {
	var s settings
	faulty := map[string]bool{}
	if err := env.ParseWithOptions(&s, env.Options{Environment: environment}); err != nil {
		aggregate, ok := errors.AsType[env.AggregateError](err)
		if !ok {
			return s, err
		}
		for _, e := range aggregate.Errors {
			if parse, ok := errors.AsType[env.ParseError](e); ok {
				faulty[parse.Name] = true
			} else if _, ok := errors.AsType[env.VarIsNotSetError](e); ok {
				faulty["Server"] = true
			} else {
				return s, e
			}
		}
	}
	check := func(field string, ok bool) { faulty[field] = faulty[field] || !ok }
	check("Server", s.Server.URL != nil)
	check("Token", s.Token == "" || s.TokenFile == "" && !strings.ContainsAny(s.Token, " \t\r\n"))
	check("TTL", 3*time.Minute <= s.TTL && s.TTL <= 24*time.Hour && s.TTL%time.Minute == 0)
	check("Port", 0 <= s.Port && s.Port <= 65535)
	check("PodNamespace", s.PodNamespace == "" || len(validation.IsDNS1123Label(s.PodNamespace)) == 0)
	var faults []error
	for field := range reflect.TypeFor[settings]().Fields() {
		if !faulty[field.Name] {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		problem := fmt.Sprintf("is %q, but", environment[name])
		if field.Name == "Token" {
			problem = "is invalid:" // not the value, which is a secret
		} else if environment[name] == "" {
			problem = "is not set:"
		}
		faults = append(faults, fmt.Errorf("%s %s must be %s", name, problem, field.Tag.Get("allowed")))
	}
	return s, errors.Join(faults...)
}

// server is the address of a server.
type server struct{ *url.URL }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *server) UnmarshalText(text []byte) error {
	u, err := url.Parse(strings.TrimRight(string(text), "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("not the address of a server")
	}
	s.URL = u
	return nil
}

// namespaces is a list of namespaces.
type namespaces []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *namespaces) UnmarshalText(text []byte) error {
	for name := range strings.SplitSeq(string(text), ",") {
		if name = strings.TrimSpace(name); len(validation.IsDNS1123Label(name)) > 0 {
			return fmt.Errorf("%q is not the name of a namespace", name)
		}
		*n = append(*n, name)
	}
	slices.Sort(*n)
	*n = slices.Compact(*n)
	return nil
}

// logLevel is the lowest level that is logged.
type logLevel struct{ slog.Level }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *logLevel) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "debug", "info", "warn", "error":
		return l.Level.UnmarshalText(text)
	}
	return errors.New("unknown log level")
}

// logFormat is the format of log lines: text or json.
type logFormat string

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *logFormat) UnmarshalText(text []byte) error {
	switch value := logFormat(strings.ToLower(string(text))); value {
	case "text", "json":
		*f = value
		return nil
	}
	return errors.New("unknown log format")
}
