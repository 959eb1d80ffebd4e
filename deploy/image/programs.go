package main

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const repository = "https://github.com/kubeagents/kubeagents"

// program is one of our programs, with what is special about its image.
type program struct {
	name               string // of the program's file, in the root directory
	title, description string
	page               string // of the manual
	directories        []file
	config             v1.Config
}

// programs are those that have an image.
var programs = []program{
	{
		name:        "kubeagents",
		title:       "KubeAgents",
		description: "Status hub for AI agents",
		page:        "operate.md",
		directories: []file{{name: "data/", mode: 0o700, owner: user}},
		config: v1.Config{
			Env:        []string{"DATA_DIR=/data", "HOST=0.0.0.0"},
			WorkingDir: "/data",
			Volumes:    map[string]struct{}{"/data": {}},
			Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/kubeagents", "health"}, Interval: 30 * time.Second,
				Timeout: 15 * time.Second, StartPeriod: time.Minute},
		},
	},
	{
		name:        "kubeagents-watcher", // Kubernetes checks its health, so that it needs no command for that
		title:       "KubeAgents watcher",
		description: "Reports the Pods and Jobs of a Kubernetes cluster to KubeAgents",
		page:        "kubernetes.md",
		config:      v1.Config{WorkingDir: "/"},
	},
}

// names returns the names of the programs.
func names() (all []string) {
	for _, p := range programs {
		all = append(all, p.name)
	}
	return all
}
