// Package models holds the nouns of KubeAgents: what an agent reports, what the server remembers of
// it, and the rules that make a report valid. It imports nothing else of this module.
//
// Every type here is a plain value: copying one copies all of it, and none shares memory that changes.
package models
